"""Every format in the norm of a layer's inputs: less error there, and the factors are those of the kernel itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from specs import CONTRACT, kernel_of

from cases import gaussian
from polyadic.decomposition import InputNorm, PatchMoments
from polyadic.formats import Format
from polyadic.schema import ConvSpec, Rank

WINDOW = ConvSpec(4, 5, (3, 2), (1, 1), (1, 0), (1, 1))
MATRIX = ConvSpec(4, 5)
RANKS: dict[str, Rank] = {
    "cp-epc": (4,),
    "cp-als": (4,),
    "cp-als-epc": (4,),
    "cp4-epc": (4,),
    "tucker2": (2, 3),
    "tkd-cpd-epc": (2, 3, 3),
    "svd": (2,),
    "spatial-svd": (3,),
    "tt": (2, 4, 3),
    "tt-matrix": (4, 3),
}
every_format = pytest.mark.parametrize("fmt", CONTRACT.values(), ids=CONTRACT)


def layer(fmt: Format) -> ConvSpec:
    return WINDOW if fmt.refuses(WINDOW) is None else MATRIX


def norm(fmt: Format, spec: ConvSpec) -> InputNorm:
    """Of patches in which few directions matter."""
    patches = gaussian(200, 4 * spec.taps, seed=3) @ gaussian(4 * spec.taps, 4 * spec.taps, seed=4).triu() ** 3
    given = InputNorm.of_patches(PatchMoments.of([(patches, gaussian(200, 5))]), spec.taps)
    return given if fmt.weighs_window else given.channels_only()


@every_format
@pytest.mark.parametrize("transposed", [False, True])
def test_the_error_falls_where_the_inputs_are_and_is_the_one_reported(fmt: Format, transposed: bool) -> None:
    spec = layer(fmt)
    if transposed and spec.axes:
        spec = replace(spec, transposed=True, output_padding=(0, 0))
    kernel, used = kernel_of(spec), norm(fmt, spec)
    weighed = used.weigh(kernel)

    def error(given: InputNorm | None) -> float:
        rebuilt = fmt.factorise(kernel, spec, RANKS[fmt.name], norm=given).dense_kernel().reshape(kernel.shape)
        return float((weighed - used.weigh(rebuilt)).norm() / weighed.norm())

    assert error(used) < error(None)
    factored = fmt.factorise(kernel, spec, RANKS[fmt.name], norm=used)
    assert factored.weighted_error == pytest.approx(error(used), rel=1e-6)
    difference = float((kernel - factored.dense_kernel().reshape(kernel.shape)).norm() / kernel.norm())
    assert factored.relative_error == pytest.approx(difference, rel=1e-9)


@every_format
def test_at_the_largest_rank_the_kernel_itself_is_met_in_any_norm(fmt: Format) -> None:
    """Factors of the weighed kernel would miss it by far."""
    spec = layer(fmt)
    factored = fmt.factorise(kernel_of(spec), spec, fmt.largest_rank(spec), norm=norm(fmt, spec))
    assert factored.relative_error < 1e-9
    assert factored.weighted_error == pytest.approx(0.0, abs=1e-9)


@every_format
def test_a_norm_of_patches_serves_formats_that_weigh_the_channels_alone(fmt: Format) -> None:
    spec = layer(fmt)
    whole = InputNorm.of_patches(PatchMoments.of([(gaussian(99, 4 * spec.taps), gaussian(99, 5))]), spec.taps)
    first, second = (
        fmt.factorise(kernel_of(spec), spec, RANKS[fmt.name], norm=given) for given in (whole, whole.channels_only())
    )
    same = first.relative_error == pytest.approx(second.relative_error, rel=1e-9)
    assert same == (not fmt.weighs_window or spec.taps == 1)
