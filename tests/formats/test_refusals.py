"""Every reason for which a format leaves a layer dense, once."""

from __future__ import annotations

import pytest

from polyadic.errors import LayerError
from polyadic.formats import FORMATS, Format, TTMatrixFormat, format_named
from polyadic.schema import ConvSpec


def window(*kernel: int, S: int = 8, T: int = 8) -> ConvSpec:
    axes = len(kernel)
    return ConvSpec(S, T, kernel, (1,) * axes, (0,) * axes, (1,) * axes)


LINEAR = ConvSpec(8, 8)
REASONS: list[tuple[Format | str, ConvSpec, str]] = [
    *(
        (name, spec, "a 1 x 1 kernel is a matrix, for which svd is optimal")
        for name in FORMATS
        if name not in ("svd", "tt-matrix")
        for spec in (LINEAR, window(1, 1))
    ),
    ("svd", window(3, 2), "svd factorises matrices (1 x 1 and fully connected layers), not a window of 3 x 2"),
    ("cp4-epc", window(3), "a factor for each of several axes, and this window extends along one: use cp-epc"),
    ("cp4-epc", window(1, 3), "a factor for each of several axes, and this window extends along one: use cp-epc"),
    ("spatial-svd", window(3, 1, 1), "splits a window between its axes, and this one extends along a single axis"),
    ("tt", window(1, 5), "leaves the chain of tucker2, which is better at equal ranks"),
    ("tt-matrix", window(3, 3, S=3), "3 and 8 channels are too few to be counted in several digits"),
    ("tt-matrix", ConvSpec(64, 2), "64 and 2 channels are too few to be counted in several digits"),
    (TTMatrixFormat((4, 2)), LINEAR, "takes modes for rows and columns, or for neither"),
    (TTMatrixFormat(None, (4, 2)), LINEAR, "takes modes for rows and columns, or for neither"),
    (TTMatrixFormat((4, 2), (2, 2, 2)), LINEAR, "as many row modes as column modes; got (4, 2) and (2, 2, 2)"),
    (TTMatrixFormat((), ()), LINEAR, "as many row modes as column modes; got () and ()"),
    (TTMatrixFormat((0, 8), (4, 2)), LINEAR, "as many row modes as column modes; got (0, 8) and (4, 2)"),
    (TTMatrixFormat((8,), (8,)), LINEAR, "a matrix tensor train of one core is the matrix itself"),
    (TTMatrixFormat((3, 2), (4, 2)), LINEAR, "row modes multiply to T = 8 or more"),
    (TTMatrixFormat((4, 2), (7, 1)), window(3, 3), "column modes to S = 8 or more; got (4, 2) and (7, 1)"),
]


@pytest.mark.parametrize(("fmt", "spec", "reason"), REASONS)
def test_a_layer_is_refused_for_its_reason(fmt: Format | str, spec: ConvSpec, reason: str) -> None:
    fmt = format_named(fmt) if isinstance(fmt, str) else fmt
    said = fmt.refuses(spec)
    assert said is not None
    assert reason in said
    with pytest.raises(LayerError, match=f"^{fmt.name.split('[')[0]}.* cannot be used here: "):
        fmt.check(spec, (1,))


SERVED = [
    ("cp-epc", window(1, 3)),
    ("tucker2", window(3)),
    ("tkd-cpd-epc", window(2, 1, 1)),
    ("svd", window(1, 1, 1)),
    ("cp4-epc", window(1, 3, 2)),
    ("spatial-svd", window(2, 1, 2)),
    ("tt", window(2, 2)),
    ("tt-matrix", LINEAR),
    ("tt-matrix", window(1, 1, S=4, T=4)),
    ("tt-matrix[8,8]", window(3, 3)),
    ("tt-matrix[8x1,1x8]", LINEAR),
    ("tt-matrix[3x3,2x5]", LINEAR),
]


@pytest.mark.parametrize(("name", "spec"), SERVED)
def test_what_is_just_enough_is_served(name: str, spec: ConvSpec) -> None:
    assert format_named(name).refuses(spec) is None
