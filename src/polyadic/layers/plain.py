"""Plain torch layers, their arguments and their description in integers."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.schema import ConvSpec

Sizes = int | Sequence[int]
"""One number for every axis, or one for each."""

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def spec_of(module: nn.Module) -> ConvSpec | None:
    """The description of a plain ``nn.Linear``, ``nn.Conv1d/2d/3d`` or ``nn.ConvTranspose1d/2d/3d``.

    A layer whose weight is parametrised is described as the class that it was before. Sizes that were set after the
    layer was made are read as torch reads them: a plain int counts for every axis. None for every other class,
    subclasses too, and for sizes that no plain layer has.
    """
    kind = nn.utils.parametrize.type_before_parametrizations(module)
    if kind is nn.Linear:
        linear = cast(nn.Linear, module)
        return ConvSpec(linear.in_features, linear.out_features, bias=linear.bias is not None)
    transposed = kind in _TRANSPOSED.values()
    if kind not in _CONVOLUTIONS.values() and not transposed:
        return None
    conv = cast(nn.Conv2d, module)
    axes = next(axes for axes in _CONVOLUTIONS if kind in (_CONVOLUTIONS[axes], _TRANSPOSED[axes]))
    padding: Any = 0 if conv.padding == "valid" else conv.padding
    try:
        return ConvSpec(
            conv.in_channels,
            conv.out_channels,
            _as_torch_reads(conv.kernel_size, axes),
            _as_torch_reads(conv.stride, axes),
            "same" if padding == "same" else _as_torch_reads(padding, axes),
            _as_torch_reads(conv.dilation, axes),
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            transposed,
            _as_torch_reads(conv.output_padding, axes) if transposed else (),
        )
    except (TypeError, ValueError):
        return None


def _as_torch_reads(sizes: Any, axes: int) -> tuple[int, ...]:
    """One number for each axis; a single one, also in a list, counts for all of them.

    Raises:
        TypeError: no whole numbers.
    """
    values = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
    values = tuple(map(operator.index, values))
    return values * axes if len(values) == 1 else values


def conv_spec(
    axes: int,
    in_channels: int,
    out_channels: int,
    *,
    padding: Sizes | str,
    output_padding: Sizes | None = None,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    **sizes: Sizes,
) -> ConvSpec:
    """What torch makes of such arguments of a convolution; it is transposed if it has an output padding.

    Args:
        axes: 1 to 3.
        in_channels: S.
        out_channels: T.
        padding: sizes, "same" or "valid".
        output_padding: sizes, of a transposed convolution only.
        groups: as in torch.
        bias: as in torch.
        padding_mode: as in torch.
        sizes: kernel_size, stride and dilation.

    Raises:
        LayerError: sizes of another number of axes or out of range, channels that do not divide into the groups.
    """
    transposed = output_padding is not None
    if padding not in ("same", "valid") or transposed:
        sizes["padding"] = cast(Sizes, padding)  # another text is refused as no size
    given = {name: per_axis(name, value, axes) for name, value in sizes.items()}
    if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
        raise LayerError(f"channels divide into the groups; got {in_channels} and {out_channels} in {groups} groups")
    return ConvSpec(
        in_channels,
        out_channels,
        given["kernel_size"],
        given["stride"],
        "same" if padding == "same" else given.get("padding", (0,) * axes),
        given["dilation"],
        groups,
        bias,
        padding_mode,
        transposed,
        per_axis("output_padding", output_padding, axes) if output_padding is not None else (),
    )


def per_axis(name: str, value: Sizes, axes: int) -> tuple[int, ...]:
    """``value`` with one number for each axis.

    Raises:
        LayerError: another number of them, something else than whole numbers, or numbers out of range.
    """
    sizes = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    least = 0 if "padding" in name else 1
    if len(sizes) != axes or not all(isinstance(size, int) and size >= least for size in sizes):
        raise LayerError(f"{name} over {axes} axes is a whole number from {least} up, or {axes} of them; got {value!r}")
    return sizes


def plain_layer(spec: ConvSpec, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """The torch layer that ``spec`` describes, with uninitialised weights on ``device``."""
    kind: type[nn.Module] = nn.Linear
    arguments: dict[str, Any] = {"bias": spec.bias, "dtype": dtype, "device": "meta"}  # draws no numbers
    if spec.axes:
        kind = (_TRANSPOSED if spec.transposed else _CONVOLUTIONS)[spec.axes]
        arguments |= {"kernel_size": spec.kernel, "stride": spec.stride, "padding": spec.padding}
        arguments |= {"dilation": spec.dilation, "groups": spec.groups, "padding_mode": spec.padding_mode}
    if spec.transposed:
        arguments["output_padding"] = spec.output_padding
    return kind(spec.in_channels, spec.out_channels, **arguments).to_empty(device=device)


def filled_layer(spec: ConvSpec, kernel: Tensor, bias: Tensor | None, like: Tensor | None = None) -> nn.Module:
    """The torch layer that ``spec`` describes, with this kernel (T x S/groups x window) and bias (T).

    It has the dtype and the device of ``like``, or else of the kernel.
    """
    like = kernel if like is None else like
    layer = plain_layer(spec, like.device, like.dtype)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch_weight(kernel, spec))
        if bias is not None:
            layer.get_parameter("bias").copy_(bias)
    return layer


def kernel_of(weight: Tensor, spec: ConvSpec) -> Tensor:
    """The kernel T x S/groups x window of a layer whose weight torch stores as ``weight``.

    Transposed layers store S x T/groups x window; every other weight is the kernel already.
    """
    return _swap_channels(weight, spec.in_channels // spec.groups, spec.groups) if spec.transposed else weight


def torch_weight(kernel: Tensor, spec: ConvSpec) -> Tensor:
    """The inverse of :func:`kernel_of`: the weight as torch stores it."""
    return _swap_channels(kernel, spec.out_channels // spec.groups, spec.groups) if spec.transposed else kernel


def torch_weight_shape(spec: ConvSpec) -> tuple[int, ...]:
    """Shape of the weight as torch stores it: S x T/groups x window for a transposed layer, else that of the kernel."""
    if spec.transposed:
        return (spec.in_channels, spec.out_channels // spec.groups, *spec.kernel)
    return spec.weight_shape


def _swap_channels(weight: Tensor, rows: int, groups: int) -> Tensor:
    """Rows and columns exchanged in each group: (groups rows) x columns to (groups columns) x rows."""
    blocks = weight.reshape(groups, rows, *weight.shape[1:])
    return blocks.transpose(1, 2).flatten(0, 1)


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter, the CPU if there is none."""
    first = next(model.parameters(), None)
    return first.device if first is not None else torch.device("cpu")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of ``model`` in evaluation mode; on leaving, each goes back to its own."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Counterpart:
    """A class of layers that is constructed like a layer of torch, which it can be made from and turned back into.

    Attributes:
        axes: number of spatial axes; 0 stands for ``nn.Linear``.
        transposed: whether it stands for a transposed convolution.
    """

    axes: ClassVar[int]
    transposed: ClassVar[bool] = False

    @classmethod
    def describe(cls, structure: str, arguments: str) -> None:
        """Complete the docstring of a class: what it is and its base's arguments where it has none, and an example.

        Args:
            structure: in the words of the format, such as "of rank R: S - R - T".
            arguments: of the example.
        """
        base = cls.__base__ or cls
        inherited = (inspect.getdoc(base) or "").partition("\n\n")[2]
        said = inspect.cleandoc(cls.__doc__ or f"``nn.{_torch_name(cls)}`` {structure}.\n\n{inherited}")
        size = (1, 16, *(8,) * cls.axes)
        cls.__doc__ = (
            f"{said}\n\nExample:\n"
            f"    >>> layer = {cls.__name__}({arguments})\n"
            f"    >>> layer(torch.zeros{size}).shape\n"
            f"    torch.Size({[1, 32, *size[2:]]})\n"
        )

    @classmethod
    def weights_of(cls, layer: nn.Module) -> tuple[ConvSpec, Tensor, Tensor, Tensor | None]:
        """Geometry, kernel, weight as torch stores it, and bias of the torch layer that this class stands for.

        Raises:
            LayerError: another kind of layer.
        """
        dense = spec_of(layer)
        if dense is None or (dense.axes, dense.transposed) != (cls.axes, cls.transposed):
            raise LayerError(f"{cls.__name__}.from_dense takes its torch counterpart; got {type(layer).__name__}")
        weight = cast(Tensor, layer.weight).detach()
        return dense, kernel_of(weight, dense), weight, cast("Tensor | None", layer.bias)


def _torch_name(kind: type[Counterpart]) -> str:
    return f"Conv{'Transpose' * kind.transposed}{kind.axes}d" if kind.axes else "Linear"
