"""Two layers in a row with nothing between them, in integers: the one layer that they are, and an earlier stride."""

from __future__ import annotations

import math
from dataclasses import replace

from polyadic.schema.conv_spec import ConvSpec


def compose(first: ConvSpec, second: ConvSpec) -> ConvSpec | str:
    """The layer that ``second`` after ``first`` is exactly, or in one sentence why there is none.

    One of the two has to be a *mixing*: a window of one tap and no padding. With s the stride of a mixing that comes
    first, the second layer's stride, dilation and padding become s times as large; a mixing that comes last passes its
    stride on to the first layer. Groups of both stay apart only where both keep them apart: gcd of their numbers.

    Raises:
        ValueError: the channels of the two do not meet.
    """
    if first.out_channels != second.in_channels:
        raise ValueError(
            f"the second layer reads what the first one writes; got {first.out_channels} channels for {second}"
        )
    if first.axes != second.axes:
        return "they have windows over different numbers of axes"
    found = _mixed_last(first, second) if is_mixing(second) else _mixed_first(first, second)
    if isinstance(found, str) and is_mixing(first) and is_mixing(second):
        found = _mixed_first(first, second)
    if isinstance(found, str):
        return found
    return replace(
        found,
        in_channels=first.in_channels,
        out_channels=second.out_channels,
        groups=math.gcd(first.groups, second.groups),
        bias=first.bias or second.bias,
    )


def move_stride(first: ConvSpec, second: ConvSpec) -> tuple[ConvSpec, ConvSpec]:
    """The two layers with as much of the second one's stride in the first one as is exact; as they are if none is.

    Along an axis the second layer reads the positions ``s o + d k - p``. With g = gcd(s, d), which is s for a single
    tap, they are all multiples of g if g divides p: the first layer need not compute the others, and the second one has
    stride s / g, dilation d / g and padding p / g. Beyond the end zeros are read before as after.
    """
    padding = explicit_padding(first)
    if first.transposed or second.transposed or padding is None or second.padding == "same":
        return first, second
    steps = []
    axes = zip(second.stride, second.dilation, second.kernel, second.padding, strict=True)
    for stride, dilation, taps, pad in axes:
        g = math.gcd(stride, dilation) if taps > 1 else stride
        copied = pad and second.padding_mode != "zeros"  # reflected and repeated positions would be others
        steps.append(1 if pad % g or copied else g)
    if all(g == 1 for g in steps):
        return first, second

    def divided(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(value // g for value, g in zip(values, steps, strict=True))

    # the dilation of a single tap says nothing, and need not be a multiple of g
    apart = zip(second.dilation, second.kernel, steps, strict=True)
    nearer = tuple(dilation // g if taps > 1 else dilation for dilation, taps, g in apart)
    return (
        replace(first, stride=_times(first.stride, tuple(steps)), padding=padding),
        replace(second, stride=divided(second.stride), padding=divided(second.padding), dilation=nearer),
    )


def is_mixing(spec: ConvSpec) -> bool:
    """Whether the layer mixes the channels of single positions: one tap, no padding, every output from one input."""
    moves = spec.transposed and (any(step != 1 for step in spec.stride) or any(spec.output_padding))
    return spec.taps == 1 and not any(spec.pads) and not moves


def keeps_constants(spec: ConvSpec) -> bool:
    """Whether an image that is constant in each channel comes out constant: no zeros are read beyond its border.

    Exactly then may a constant that is added to the inputs be added to the outputs instead.
    """
    if spec.transposed:
        return spec.taps == 1 and all(step == 1 for step in spec.stride) and not any(spec.output_padding)
    return spec.padding_mode != "zeros" or not any(spec.pads)


def explicit_padding(spec: ConvSpec) -> tuple[int, ...] | None:
    """Padding in numbers, one per axis; None where "same" pads one side more than the other."""
    if spec.padding != "same":
        return spec.padding
    pads = spec.pads[::-1]  # after and before, from the first axis on
    return tuple(pads[::2]) if pads[::2] == pads[1::2] else None


def _mixed_last(first: ConvSpec, mixing: ConvSpec) -> ConvSpec | str:
    if all(step == 1 for step in mixing.stride):
        return first
    if first.transposed:
        return "a stride after a transposed layer leaves positions out that no single layer leaves out"
    padding = explicit_padding(first)
    if padding is None:
        return "its padding 'same' is larger on one side, and a layer with a stride pads both sides alike"
    return replace(first, stride=_times(first.stride, mixing.stride), padding=padding)


def _mixed_first(mixing: ConvSpec, second: ConvSpec) -> ConvSpec | str:
    if not is_mixing(mixing):
        return "both have windows or padding, and their product would have a larger window"
    if mixing.bias and not keeps_constants(second):
        beyond = "spreads its inputs unevenly" if second.transposed else "pads with zeros"
        return f"the first has a bias and the second {beyond}, so no single bias is right at the border"
    strides = mixing.stride
    if all(step == 1 for step in strides):
        return second
    if second.transposed:
        return "a transposed layer after a stride fills positions in that the stride left out"
    padding = explicit_padding(second)
    if padding is None:
        return "padding 'same' of the second is larger on one side, and a layer with a stride pads both sides alike"
    if second.padding_mode != "zeros" and any(padding):
        return f"padding in the mode {second.padding_mode!r} copies other positions behind a stride"
    return replace(
        second,
        stride=_times(second.stride, strides),
        dilation=_times(second.dilation, strides),
        padding=_times(padding, strides),
    )


def _times(values: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value * factor for value, factor in zip(values, factors, strict=True))
