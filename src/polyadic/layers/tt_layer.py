"""Tensor-train layers: convolutions and fully connected layers whose kernel is a matrix tensor train.

Garipov, Podoprikhin, Novikov and Vetrov, *Ultimate tensorization* (2016); Novikov et al., NIPS 2015. Each layer runs
in one of two ways, see :class:`TTLayer`.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from polyadic.errors import LayerError
from polyadic.formats import contract_train, split_cores
from polyadic.layers.plain import filled_layer
from polyadic.layers.tt_contraction import apply_cores, apply_kernel
from polyadic.schema import TTSpec, Way

log = logging.getLogger(__name__)

SPACIOUS = 4.0  # times the activations of the dense way: beyond that "auto" does not run by cores
_ROUNDS = 3  # timings of each way, of which the fastest counts


@dataclass(frozen=True)
class Footprint:
    """What one pass of a layer holds in memory at its fullest: input and output of its largest step.

    That is what the numbers themselves take. Rearranged copies and the workspace of a convolution come on top, in both
    ways; on a CPU they made 1.5 to 4.7 times as much of a convolution by cores (``benchmarks/tt_layers.py``).

    Attributes:
        cores_bytes: by cores.
        dense_bytes: in the dense way, with the kernel.
        cores_saved_bytes: what training keeps for the backward pass by cores.
    """

    cores_bytes: int
    dense_bytes: int
    cores_saved_bytes: int


@dataclass(frozen=True)
class _Kept:
    """A kernel and the cores that it was contracted from, which are held so that no other core takes their address."""

    state: tuple[Any, ...]
    cores: list[Tensor]
    kernel: Tensor


class TTLayer(nn.Module):
    """One layer with a matrix tensor train for a kernel.

    By **cores**: the window filters every channel by itself, then each core mixes one digit of the channels. The kernel
    is never formed, but what lies between the cores can be many times larger than the layer's output
    (:meth:`footprint`). **Dense**: the cores are contracted to the kernel, and an ordinary layer runs. While no
    gradient is asked for, the kernel is kept until a core changes. **Auto** times both for each new size of its input
    and remembers the faster one; it does not try the cores where they would hold more than 4 times what the dense way
    holds. While a graph is captured (``torch.compile``, ``torch.export``, ``torch.jit.trace``), "auto" takes the way
    that was last found faster, or else the one of fewer multiply-accumulates.

    A core that is changed through ``.data``, or by an optimizer that is none of torch's, may escape notice: call
    :meth:`forget` after that.

    Shapes: as the dense layer; a Linear takes (..., S).

    Attributes:
        spec: the layer in integers.
        cores: ``G_k``, r_{k-1} x t_k x s_k x r_k; that of a window comes first, D^2 x 1 in the place of t x s.
        bias: T numbers, or None.
    """

    def __init__(
        self, spec: TTSpec, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        shapes = spec.core_shapes
        self.cores = nn.ParameterList(nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) for shape in shapes)
        empty = torch.empty(spec.out_channels, device=device, dtype=dtype)
        self.bias = nn.Parameter(empty) if spec.bias else None
        self._kept: _Kept | None = None
        self._faster: dict[tuple[Any, ...], Way] = {}
        self.reset_parameters()

    def reset_parameters(self, gain: float = 3**-0.5) -> None:
        """Draw new cores so that the kernel's entries have variance ``gain^2 / (S D^2)``.

        An entry of the kernel is a sum over ``r_0 ... r_{d-1}`` of products of independent numbers of mean zero, so its
        variance is the product of all ranks and of the variances of the cores. With ``1 / (r_{k-1} s_k)`` for core k
        and ``1 / D^2`` for the window the ranks cancel and ``1 / (s_1 ... s_d D^2)`` is left. Each core alone then
        keeps the variance of what passes through it, too. ``gain`` goes to the last core: ``3^-0.5`` is what torch
        gives its own layers, ``2^0.5`` suits a ReLU (He et al. 2015). The bias is uniform within ``(S D^2)^-0.5``, as
        torch has it. (In transposed layers torch counts T where S stands here.)
        """
        fan_in = self.spec.in_channels * self.spec.dense.taps
        # column modes that are padded multiply to more than S: the kernel's variance is that of S channels
        padding = math.prod(self.spec.column_modes) / self.spec.in_channels
        with torch.no_grad():
            for number, G in enumerate(self.cores):
                r, t, s, _ = G.shape
                share = r * (t if number == 0 and self.spec.windowed else s)
                last = gain * padding**0.5 if number == len(self.cores) - 1 else 1.0
                G.normal_(0.0, last / share**0.5)
            if self.bias is not None:
                bound = fan_in**-0.5
                self.bias.uniform_(-bound, bound)
        self.forget()

    def load_flat(self, cores: Tensor) -> None:
        """Take the cores from one row of numbers, as :attr:`TTSpec.weight_shape` orders them."""
        with torch.no_grad():
            for G, values in zip(self.cores, split_cores(self.spec, cores), strict=True):
                G.copy_(values)
        self.forget()

    def kernel(self) -> Tensor:
        """The kernel T x S x window (T x S for a Linear), differentiable in the cores, in their own precision."""
        device = self.cores[0].device.type
        if not torch.is_autocast_enabled(device):  # a graph that is captured then has plain operators alone
            return contract_train(self.spec, [*self.cores])
        with torch.autocast(device, enabled=False):
            return contract_train(self.spec, [*self.cores])

    def to_dense(self) -> nn.Module:
        """The torch layer that gives the same answers."""
        return filled_layer(self.spec.dense, self.kernel(), self.bias).train(self.training)

    def footprint(self, x: Tensor) -> Footprint:
        """What a pass over ``x`` holds in memory, in both ways."""
        size = self._size_of(x)
        samples, width = self._samples(x), x.element_size()
        given = self.spec.in_channels * math.prod(size)
        widened = math.prod(self.spec.column_modes) * math.prod(size)  # with the zeros of padded modes
        numbers = [widened, *(step.numbers for step in self.spec.steps(size))]
        peak = max(before + after for before, after in itertools.pairwise(numbers))
        out = self.spec.out_channels * math.prod(self.spec.output_size(size))
        kernel = math.prod(self.spec.dense.weight_shape)
        return Footprint(
            samples * peak * width, (samples * (given + out) + kernel) * width, samples * sum(numbers[:-1]) * width
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x as the dense layer does."""
        way = self.spec.way if self.spec.way != "auto" else self._choose_way(x)
        return self._by_cores(x) if way == "cores" else self._dense(x)

    def run_in(self, way: Way) -> None:
        """Choose the way from now on.

        Raises:
            LayerError: there is no such way.
        """
        if way not in ("auto", "cores", "dense"):
            raise LayerError(f"a tensor-train layer runs by 'cores', 'dense' or in the way 'auto' finds; got {way!r}")
        self.spec = self.spec.in_way(way)

    def forget(self) -> None:
        """Drop the kernel that is kept and the ways that were measured."""
        self._kept = None
        self._faster = {}

    def extra_repr(self) -> str:
        """Sizes, modes and ranks."""
        spec, pairs = self.spec, zip(self.spec.row_modes, self.spec.column_modes, strict=True)
        window = f", kernel_size={spec.dense.kernel}, stride={spec.dense.stride}" if spec.axes else ""
        modes = " ".join(f"{t}x{s}" for t, s in pairs)
        return f"{spec.in_channels}, {spec.out_channels}{window}, modes={modes}, ranks={spec.ranks}, way={spec.way}"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the kernel that is kept: it would be copied and stored with the layer."""
        return {**self.__dict__, "_kept": None}

    def _dense(self, x: Tensor) -> Tensor:
        return apply_kernel(self.spec.dense, self._kernel_for_now(), self.bias, x)

    def _by_cores(self, x: Tensor) -> Tensor:
        return apply_cores(self.spec, [*self.cores], self.bias, x)

    def _kernel_for_now(self) -> Tensor:
        trained = torch.is_grad_enabled() and any(G.requires_grad for G in self.cores)
        # tensors of inference mode do not count their changes
        if trained or _is_captured() or any(G.is_inference() for G in self.cores):
            return self.kernel()
        state = (_optimizer_steps()[0], *((G.data_ptr(), G._version, G.dtype, G.device) for G in self.cores))
        if self._kept is None or self._kept.state != state:
            with torch.inference_mode(False), torch.no_grad():  # so that it can serve a backward pass later on
                kernel = self.kernel()
            self._kept = _Kept(state, [G.detach() for G in self.cores], kernel)
        return self._kept.kernel

    def _size_of(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[-self.spec.axes :]) if self.spec.axes else (1,)

    def _samples(self, x: Tensor) -> int:
        return x.numel() // (self.spec.in_channels * math.prod(self._size_of(x)))

    def _choose_way(self, x: Tensor) -> Way:
        """The faster way for inputs about as large as ``x``."""
        if _is_captured():
            return next(reversed(self._faster.values()), self.spec.cheaper)
        trained = torch.is_grad_enabled() and any(G.requires_grad for G in self.cores)
        kind = (x.numel().bit_length(), x.dtype, x.device, trained, torch.is_autocast_enabled(x.device.type))
        if kind not in self._faster:
            self._faster[kind] = self._measure_ways(x, trained)
        return self._faster[kind]

    def _measure_ways(self, x: Tensor, trained: bool) -> Way:
        space = self.footprint(x)
        if space.cores_bytes > SPACIOUS * space.dense_bytes:
            log.info(
                "a tensor-train layer runs dense: by cores a batch of %d would hold %.1f MB instead of %.1f MB",
                self._samples(x), space.cores_bytes / 1e6, space.dense_bytes / 1e6,
            )  # fmt: skip
            return "dense"
        cores, dense = (self._seconds(run, x, trained) for run in (self._by_cores, self._dense))
        return "cores" if cores < dense else "dense"

    def _seconds(self, run: Callable[[Tensor], Tensor], x: Tensor, trained: bool) -> float:
        """The fastest of a few passes, there and, in training, back."""
        given = x.detach().requires_grad_(trained and x.requires_grad)
        spent = []
        for _ in range(1 + _ROUNDS):  # the first one warms up
            began = _now(x.device)
            y = run(given)
            if trained:
                wanted = [*self.cores, given] if given.requires_grad else [*self.cores]
                torch.autograd.grad(y.float().sum(), [t for t in wanted if t.requires_grad])
            spent.append(_now(x.device) - began)
        return min(spent[1:])


@cache
def _optimizer_steps() -> list[int]:
    """How many steps optimizers of torch have made since this was first called, as the one entry.

    Fused optimizers change parameters and leave their version counters as they are.
    """
    made = [0]

    def count(*_: object) -> None:
        made[0] += 1

    register_optimizer_step_post_hook(count)
    return made


def _is_captured() -> bool:
    """Whether a graph is being captured; sizes are no plain numbers then, and nothing may be kept or measured."""
    return torch.compiler.is_compiling() or torch._C._is_tracing()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
