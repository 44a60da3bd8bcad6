"""The arguments of torch's convolutions, one number or one per axis, as a description in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from polyadic.errors import LayerError
from polyadic.schema import ConvSpec

Sizes = int | Sequence[int]
"""One number for every axis, or one for each."""


def convolution(
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
    """The convolution over ``axes`` axes that torch makes of such arguments; transposed if it has an output padding.

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
