"""Several processes under a launcher (``accelerate launch``, ``torchrun``), one device each, on one host or many."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.training.processes import ALONE, Processes
from polyadic.training.shared_statistics import SharedStatistics

T = TypeVar("T")

dist: Any = torch.distributed  # its stores and its rendezvous are documented, and in no stub

LOOKS = 0.2
"""Seconds between two looks for a message of the main process, which may take days: no collective waits so long."""

LAST_WORD = timedelta(seconds=10)
"""How long a process that fails second lets the first one speak; a launcher ends all when one has ended."""


def several() -> bool:
    """Whether a launcher has started more than one process, by the variables that it sets."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def own_device() -> torch.device:
    """Where this process computes unless told otherwise: CUDA if there is any, and under a launcher a device each.

    Raises:
        PolyadicError: there are more processes than devices.
    """
    if not torch.cuda.is_available() or (several() and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"):
        return torch.device("cpu")
    if not several():
        return torch.device("cuda")
    number, devices = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= devices:
        raise PolyadicError(
            f"each process takes a device of its own; got process {number} (from 0) of this host and {devices} CUDA "
            "devices: start as many processes as devices, or give the launcher --cpu"
        )
    return torch.device("cuda", number)


def processes() -> Processes:
    """The processes of this run: this one alone unless a launcher started more, and then, once, a connection to them.

    Raises:
        PolyadicError: accelerate is missing, or the launcher's variables are not complete.
    """
    return _connected() if several() else ALONE


def give_up(tell: Callable[[], None]) -> None:
    """Say why this process ends, if it is the first to end; see :meth:`Processes.failed`."""
    if not several() or _connected.cache_info().currsize:
        processes().failed(tell)
    elif os.environ.get("RANK", "0") == "0":
        tell()  # before they have met, all fail at the same thing


@functools.cache
def _connected() -> Processes:
    """Meet the other processes."""
    try:
        accelerate = importlib.import_module("accelerate")
    except ImportError as error:
        raise PolyadicError(
            f"several processes need accelerate, which cannot be imported ({error}): "
            "pip install 'polyadic[distributed]'"
        ) from error
    on_cpu, found = own_device().type == "cpu", dist.is_initialized()
    # A script may have connected its processes itself; their store then has no public name.
    store = dist.distributed_c10d._get_default_store() if found else _met("gloo" if on_cpu else None)
    # Precision and compilation are Polyadic's own affair, whatever a configuration of accelerate says.
    options = accelerate.DistributedDataParallelKwargs(static_graph=True)  # parameters without effect are allowed
    accelerator = accelerate.Accelerator(
        cpu=on_cpu, mixed_precision="no", dynamo_backend="no", kwargs_handlers=[options]
    )
    return Launched(accelerator, dist.PrefixStore("polyadic", store), leaves=not found)


def _met(backend: str | None) -> Any:
    """Meet the others where the launcher says, and return the store of the meeting; no backend is that of the device.

    Raises:
        PolyadicError: the launcher's variables are not complete.
    """
    try:
        store, rank, count = next(dist.rendezvous("env://"))
    except ValueError as error:
        raise PolyadicError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that a launcher started several processes, and {error}: start "
            "them with accelerate launch or torchrun, or unset WORLD_SIZE"
        ) from error
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    return store


@final
class Launched(Processes):
    """Processes that accelerate has connected."""

    def __init__(self, accelerator: Any, store: Any, leaves: bool) -> None:
        """``store`` holds short messages of all, and is waited at; ``leaves``: the connection ends with the program."""
        self._accelerator = accelerator
        self._store = store
        self._messages = 0
        self._over = False
        if leaves:
            atexit.register(self._close)

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        return int(self._accelerator.process_index)

    @property
    def count(self) -> int:
        """How many there are, on all hosts."""
        return int(self._accelerator.num_processes)

    @contextlib.contextmanager
    def replica(self, model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
        """DistributedDataParallel, and batch norm over the rows of all."""
        # Its hooks on the parameters would act on the next backward pass of whoever owns the model: it must not outlive
        # this context, and whoever holds ``forward`` holds an empty list.
        parallel = [self._accelerator.prepare_model(model, device_placement=False)]

        def forward(batch: Tensor) -> Tensor:
            with SharedStatistics(self.total):
                logits: Tensor = parallel[0](batch)
            return logits

        try:
            yield forward
        finally:
            parallel.clear()
            self._accelerator.free_memory()

    def total(self, share: Tensor) -> Tensor:
        """The sum over processes, in place."""
        dist.all_reduce(share)
        return share

    def gathered(self, value: T) -> list[T]:
        """Pickled and sent to all."""
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T | None) -> T:
        """Pickled and sent by the main one; the others look for its sign first.

        Raises:
            PolyadicError: a process has failed meanwhile.
        """
        self._messages += 1
        sign = f"message {self._messages}"
        if self.is_main:
            self._store.set(sign, "ready")
        while not self._store.check([sign]):
            if self._store.check(["over"]):
                raise PolyadicError("all processes of a run end together, and another one has failed: see what it said")
            time.sleep(LOOKS)
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        received: T = box[0]
        return received

    @torch.no_grad()
    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Sent by the main one, tensor by tensor."""
        for tensor in tensors:
            plain = tensor.detach().clone(memory_format=torch.contiguous_format)
            dist.broadcast(plain, src=0)
            tensor.copy_(plain)

    def failed(self, tell: Callable[[], None]) -> None:
        """The first one speaks, and then frees those who wait; the later ones let it finish."""
        self._over = True
        try:
            first = self._store.add("failures", 1) == 1
        except RuntimeError:
            return  # whoever held the store has ended, and so has spoken
        if first:
            tell()
            self._store.set("over", "")
            return
        with contextlib.suppress(RuntimeError):
            self._store.wait(["over"], LAST_WORD)

    def _close(self) -> None:
        """Leave in order; after a failure there is nobody left to take leave of."""
        if dist.is_initialized() and not self._over:
            dist.destroy_process_group()
