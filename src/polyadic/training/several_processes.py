"""Several processes of a launcher (``accelerate launch``, ``torchrun``), a device each, connected by accelerate."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from polyadic.errors import PolyadicError, install_hint

if TYPE_CHECKING:
    from accelerate import Accelerator

LAST_WORD = 10.0
"""Seconds that the main process has to say why all of them end; the launcher then ends the others."""


def several_processes() -> bool:
    """Whether a launcher has started more than one process, by the variables that it sets."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and speaks; the only one always is."""
    return not several_processes() or os.environ.get("RANK", "0") == "0"


def connect_processes() -> Accelerator:
    """Connect this process with the others that the launcher has started; each takes a device of its own.

    Raises:
        PolyadicError: accelerate is missing, the launcher's variables are not complete, or there are more processes
            than devices.
    """
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise PolyadicError(
            f"WORLD_SIZE={os.environ.get('WORLD_SIZE')} says that a launcher started several processes, and "
            f"{', '.join(missing)} is not set: start them with accelerate launch or torchrun, or unset WORLD_SIZE"
        )
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise PolyadicError(
            f"several processes need accelerate, which cannot be imported ({error}): {install_hint('distributed')}"
        ) from error
    on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    number, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if not on_cpu and number >= devices:
        raise PolyadicError(
            f"each process takes a device of its own; got process {number} (from 0) of this host and {devices} CUDA "
            "devices: start as many processes as devices, or give the launcher --cpu"
        )
    # Precision and compilation are Polyadic's own affair, whatever a configuration of accelerate says.
    options = DistributedDataParallelKwargs(static_graph=True)  # parameters without effect are allowed
    return Accelerator(cpu=on_cpu, mixed_precision="no", dynamo_backend="no", kwargs_handlers=[options])


@contextlib.contextmanager
def shared_batch_norm(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Take the statistics of batch norm over the rows of all processes where torch can: on CUDA, by ``SyncBatchNorm``.

    Elsewhere, and in classes that derive from torch's, each process normalises its rows by their own mean and variance,
    and DistributedDataParallel gives all processes the running statistics of the main one before each step.
    """
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    every = dict(model.named_modules(remove_duplicate=False)) if device.type == "cuda" else {}
    own = {name: module for name, module in every.items() if name and type(module) in plain}
    convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
    shared = {module: convert(module) for module in own.values()}
    for name, module in own.items():
        model.set_submodule(name, shared[module])  # with the same parameters and buffers
    try:
        yield
    finally:
        for name, module in own.items():
            model.set_submodule(name, module)


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let what goes wrong inside be said once: by the main process, or by the only one in which it goes wrong.

    A launcher ends all processes when one has ended. So an error leaves this context at once in the main process, and
    in another one after :data:`LAST_WORD`, if it is still there: then it is the one that failed. What is no error of
    this library may be that another process has gone, and waits as long in the main one, too.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if several_processes():
            if isinstance(error, KeyboardInterrupt) and not is_main_process():
                raise SystemExit(130) from error
            unexpected = not isinstance(error, PolyadicError | KeyboardInterrupt)
            time.sleep(LAST_WORD * ((not is_main_process()) + unexpected))
        raise
