"""Factorised layers that are constructed like their torch counterparts: to train from scratch, or from a dense layer.

What is built is an ``nn.Sequential`` of plain torch layers, the chain of a format; what runs is torch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, Format, rank_for, rank_without_kernel
from polyadic.layers.arguments import Sizes, convolution
from polyadic.layers.chain import empty_chain, filled_chain
from polyadic.layers.plain import kernel_of, plain_layer, spec_of, stored
from polyadic.schema import ConvSpec, Rank, Stage

Ranks = int | Sequence[int]
Device = torch.device | str | None


class FactorisedLayer(nn.Sequential):
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
    axes: ClassVar[int]
    transposed: ClassVar[bool] = False
    __jit_unused_properties__: ClassVar[list[str]] = ["stages"]  # torch.jit.script compiles properties, too

    def __init__(
        self, dense: ConvSpec, rank: Ranks | None, ratio: float | None, device: Device, dtype: torch.dtype | None
    ) -> None:
        chosen = rank_without_kernel(self.fmt, dense, rank=rank, ratio=ratio)
        like = torch.empty(0, device=device, dtype=dtype)
        self._adopt(dense, chosen, empty_chain(self.fmt.stages(dense, chosen), like))
        self.reset_parameters()

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
        dense = spec_of(layer)
        if dense is None or (dense.axes, dense.transposed) != (cls.axes, cls.transposed):
            raise LayerError(f"{cls.__name__}.from_dense takes its torch counterpart; got {type(layer).__name__}")
        weight, bias = cast(Tensor, layer.weight).detach(), cast("Tensor | None", layer.bias)
        kernel = kernel_of(weight, dense)
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
        layer = plain_layer(self.dense, kernel.device, kernel.dtype)
        with torch.no_grad():
            layer.get_parameter("weight").copy_(stored(kernel, self.dense))
            if self.dense.bias:
                layer.get_parameter("bias").copy_(self[len(self) - 1].get_parameter("bias"))
        return layer.train(self.training)

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


class FactorisedLinear(FactorisedLayer):
    """Constructed like ``nn.Linear``.

    Args:
        in_features: S.
        out_features: T.
        bias: whether T numbers are added.
        rank: rank or ranks; one number serves for several. Or else
        ratio: at least so many times fewer numbers than in the dense kernel.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        LayerError: the format refuses the layer, a rank out of bounds, a ratio that no rank reaches, both or neither.
    """

    axes = 0

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rank: Ranks | None = None,
        ratio: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(ConvSpec(in_features, out_features, bias=bias), rank, ratio, device, dtype)


class FactorisedConv(FactorisedLayer):
    """Constructed like ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``, with a rank.

    Args:
        in_channels: S.
        out_channels: T.
        kernel_size: of the window, one number or one per axis; so are stride, padding and dilation.
        stride: as in torch.
        padding: as in torch, "same" and "valid" too.
        dilation: as in torch.
        groups: as in torch; every group has a chain of its own.
        bias: whether T numbers are added.
        padding_mode: as in torch.
        rank: rank or ranks of each group; one number serves for several. Or else
        ratio: at least so many times fewer numbers than in the dense kernel; several ranks are then equal shares of
            their largest values.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        LayerError: sizes of another number of axes, channels that do not divide into the groups, a layer that the
            format refuses, a rank out of bounds, a ratio that no rank reaches, both or neither.
        ValueError: what torch refuses of its own layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rank: Ranks | None = None,
        ratio: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = convolution(
            self.axes, in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, padding_mode=padding_mode,
        )  # fmt: skip
        super().__init__(dense, rank, ratio, device, dtype)


class FactorisedConvTranspose(FactorisedLayer):
    """Constructed like ``nn.ConvTranspose1d`` to ``nn.ConvTranspose3d``: see :class:`FactorisedConv`."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        rank: Ranks | None = None,
        ratio: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dense = convolution(
            self.axes, in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, output_padding=output_padding,
        )  # fmt: skip
        super().__init__(dense, rank, ratio, device, dtype)


def _fan_in(stage: ConvSpec) -> int:
    """What one output sums over: the channels of a group, times taps."""
    return stage.in_channels // stage.groups * stage.taps
