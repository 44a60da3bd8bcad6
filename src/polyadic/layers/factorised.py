"""Chains in the place of one layer: an ``nn.Sequential`` of plain torch layers, or of one tensor-train layer.

A chain is built empty or filled with a factored kernel. :class:`FactorisedLayer` is a chain that knows its format: it
is trained from scratch or made from a dense layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, Format, rank_for, rank_without_kernel
from polyadic.layers.plain import Counterpart, filled_layer, kernel_of, plain_layer, spec_of, torch_weight
from polyadic.layers.tt_layer import TTLayer
from polyadic.schema import ConvSpec, Rank, Stage

Ranks = int | Sequence[int]
Device = torch.device | str | None

_STRUCTURES = {
    "svd": "of rank R: S - R - T, where a window has one tap",
    "cp-epc": "as a CP of order 3: 1 x 1 to R channels, a depthwise window, 1 x 1",
    "cp4-epc": "as a CP with a factor for each axis: 1 x 1, depthwise along each axis, 1 x 1",
    "tucker2": "as a Tucker-2 of ranks (R1, R2): 1 x 1, a smaller convolution, 1 x 1",
    "spatial-svd": "of rank R between the axes: a window along the first one to R channels, then along the others",
    "tt": "as a tensor train of one rank more than axes: 1 x 1, along each axis, 1 x 1",
}


def empty_chain(stages: tuple[Stage, ...], like: Tensor) -> nn.Sequential:
    """The layers of a chain with uninitialised weights, in the dtype and on the device of ``like``."""
    return nn.Sequential(*(_layer(stage, like) for stage in stages))


def filled_chain(factored: FactoredKernel, bias: Tensor | None, like: Tensor) -> nn.Sequential:
    """The layers of a factored kernel; ``bias`` (T) goes to the last stage.

    Shapes: as the dense layer, (N, S, ...) to (N, T, ...).

    Raises:
        LayerError: a bias is missing or too many.
    """
    if (bias is not None) != factored.stages[-1].bias:
        raise LayerError(
            f"a chain takes a bias exactly where its last stage has one ({factored.stages[-1].bias}); "
            f"got {'none' if bias is None else 'one'}"
        )
    chain = empty_chain(factored.stages, like)
    with torch.no_grad():
        for layer, stage, weight in zip(chain, factored.stages, factored.weights, strict=True):
            if isinstance(stage, ConvSpec):
                layer.get_parameter("weight").copy_(torch_weight(weight, stage))
            else:
                cast(TTLayer, layer).load_flat(weight)
        if bias is not None:
            chain[-1].get_parameter("bias").copy_(bias)
    return chain


def _layer(stage: Stage, like: Tensor) -> nn.Module:
    if isinstance(stage, ConvSpec):
        return plain_layer(stage, like.device, like.dtype)
    return TTLayer(stage, like.device, like.dtype)


class FactorisedLayer(nn.Sequential, Counterpart):
    """The chain of a format in the place of one layer.

    Its parameters are called ``0.weight``, ``1.weight`` ..., as in the chains that :func:`polyadic.decompose_` makes,
    and its last stage has the bias. A network that draws all its ``nn.Conv2d`` anew after they are made draws the
    stages too: call :meth:`reset_parameters` after that.

    Shapes: as the dense layer, (N, S, ...) to (N, T, ...).

    Attributes:
        fmt: the format.
        axes: number of spatial axes.
        transposed: whether it stands for a transposed convolution.
        dense: geometry of the layer that it stands for.
        rank: rank or ranks of each group.
    """

    fmt: ClassVar[Format]
    __jit_unused_properties__: ClassVar[list[str]] = ["stages"]  # torch.jit.script compiles properties, too

    def __init__(
        self, dense: ConvSpec, rank: Ranks | None, ratio: float | None, device: Device, dtype: torch.dtype | None
    ) -> None:
        chosen = rank_without_kernel(self.fmt, dense, rank=rank, ratio=ratio)
        like = torch.empty(0, device=device, dtype=dtype)
        self._adopt(dense, chosen, empty_chain(self.fmt.stages(dense, chosen), like))
        self.reset_parameters()

    def __init_subclass__(cls, fmt: Format | None = None, axes: int = 0) -> None:
        """A class of a format and a number of axes is one of the public ones; its docstring is written here."""
        super().__init_subclass__()
        if fmt is not None:
            cls.fmt, cls.axes = fmt, axes
            sizes = "16, 32" if not axes else "16, 32, 1" if fmt.name == "svd" else "16, 32, 3, padding=1"
            cls.describe(_STRUCTURES[fmt.name], f"{sizes}, rank=8")

    @classmethod
    def from_dense(
        cls,
        layer: nn.Module,
        rank: Ranks | None = None,
        *,
        ratio: float | None = None,
        error: float | None = None,
        seed: int = 0,
    ) -> Self:
        """Decompose a trained layer.

        Args:
            layer: the torch counterpart of this class.
            rank: as in the constructor; or else one of
            ratio: at least so many times fewer numbers than in the kernel, and
            error: bound on ``||K - K^|| / ||K||``, from 0 to below 1.
            seed: of the decomposition.

        Raises:
            LayerError: another kind of layer, one that the format refuses, a rank out of bounds, not exactly one of
                rank, ratio and error, or one that cannot be met.
            DecompositionError: NaN or Inf weights.
        """
        dense, kernel, weight, bias = cls.weights_of(layer)
        chosen = rank_for(cls.fmt, kernel, dense, rank=rank, ratio=ratio, error=error, seed=seed)
        factored = cls.fmt.factorise(kernel, dense, chosen, seed)
        made = cls.__new__(cls)
        made._adopt(dense, chosen, filled_chain(factored, bias, weight))
        return made.train(layer.training)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The chain in integers."""
        return self.fmt.stages(self.dense, self.rank)

    def reset_parameters(self, gain: float = 3**-0.5) -> None:
        """Draw new weights so that the kernel's entries have variance ``gain^2 / (S/groups D^2)``; the bias as torch.

        Every stage is drawn from a normal distribution of variance ``1 / fan_in``, the last one ``gain^2 / fan_in``,
        where ``fan_in_k = c_k d_k`` for a stage whose weights each sum over ``c_k`` channels (those of a group: 1 for a
        depthwise stage) and ``d_k`` taps. An entry ``K[t, s, x]`` is a sum of products of independent numbers of mean
        zero, one from each stage, over all ways from input ``s`` to output ``t``. From the end, stage k has ``c_k``
        channels to come from, and the first one only ``s`` itself: there are ``c_2 ... c_n`` ways. One way through the
        taps leads to ``x``, since each axis of the window belongs to one stage, so that ``d_1 ... d_n = D^2``. Hence

            var K = gain^2 (c_2 ... c_n) / ((c_1 d_1) ... (c_n d_n)) = gain^2 / (c_1 D^2),  c_1 = S/groups,

        whatever the ranks. Each stage alone keeps the variance of what passes through it, too. ``gain = 3^-0.5`` is
        what torch gives its own layers (of a transposed convolution it counts the outputs T in the place of S);
        ``2^0.5`` suits a ReLU (He et al. 2015). Products of normal numbers have heavier tails than a normal number.
        """
        last = len(self) - 1
        with torch.no_grad():
            for number, (layer, stage) in enumerate(zip(self, self.stages, strict=True)):
                spread = (gain if number == last else 1.0) / _fan_in(cast(ConvSpec, stage)) ** 0.5
                layer.get_parameter("weight").normal_(0.0, spread)
            if self.dense.bias:
                bound = _fan_in(self.dense) ** -0.5
                self[last].get_parameter("bias").uniform_(-bound, bound)

    def kernel(self) -> Tensor:
        """The kernel T x S/groups x window (T x S for a Linear), differentiable, in the weights' own precision.

        Raises:
            LayerError: a stage was replaced by something else.
        """
        stages = self.stages
        replaced = [
            name for (name, layer), stage in zip(self.named_children(), stages, strict=False) if spec_of(layer) != stage
        ]
        if replaced or len(self) != len(stages):
            raise LayerError(
                f"a {type(self).__name__} has a kernel while its {len(stages)} stages are plain layers as they were "
                f"made; got {len(self)}, of which {', '.join(replaced) or 'none'} were replaced"
            )
        weights = tuple(
            kernel_of(layer.get_parameter("weight"), cast(ConvSpec, stage))
            for layer, stage in zip(self, stages, strict=True)
        )
        with torch.autocast(weights[0].device.type, enabled=False):
            return FactoredKernel(self.fmt.name, self.rank, stages, weights, 0.0, "").dense_kernel()

    def to_dense(self) -> nn.Module:
        """The torch layer that gives the same answers.

        Raises:
            LayerError: a stage was replaced by something else.
        """
        kernel = self.kernel().detach()
        bias = self[len(self) - 1].get_parameter("bias") if self.dense.bias else None
        return filled_layer(self.dense, kernel, bias).train(self.training)

    def extra_repr(self) -> str:
        """Format, sizes and rank."""
        window = f", kernel_size={self.dense.kernel}" if self.axes else ""
        return f"{self.fmt.name}, {self.dense.in_channels}, {self.dense.out_channels}{window}, rank={self.rank}"

    def __getitem__(self, index: slice | int) -> nn.Module:
        """A stage, or a part of the chain as an ``nn.Sequential``: a part stands for no layer of its own."""
        if isinstance(index, slice):
            return nn.Sequential(*list(self)[index])
        return super().__getitem__(index)

    def _adopt(self, dense: ConvSpec, rank: Rank, chain: nn.Sequential) -> None:
        nn.Sequential.__init__(self, *chain)
        self.dense: ConvSpec = dense  # not annotated in the class: torch.jit.script would want to know the type
        self.rank: Rank = rank


def _fan_in(stage: ConvSpec) -> int:
    """What one output sums over: the channels of a group, times taps."""
    return stage.in_channels // stage.groups * stage.taps
