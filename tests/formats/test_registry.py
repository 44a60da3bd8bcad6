"""The registry, and what tells the formats in it apart."""

from __future__ import annotations

import pytest

from cases import gaussian
from polyadic.decomposition import ALSOptions, EPCOptions
from polyadic.errors import LayerError
from polyadic.formats import FORMATS, CPFormat, format_named
from polyadic.schema import ConvSpec

LAYER = ConvSpec(8, 8, (3, 3), (1, 1), (1, 1), (1, 1))


def test_every_format_stands_under_its_own_name() -> None:
    assert list(FORMATS) == [fmt.name for fmt in FORMATS.values()]
    assert all(format_named(name) is fmt for name, fmt in FORMATS.items())


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LayerError, match=r"one of cp-epc, .*got 'magic'"):
        format_named("magic")


def test_formats_are_frozen_values() -> None:
    assert all(hash(fmt) == hash(format_named(name)) for name, fmt in FORMATS.items())
    with pytest.raises(AttributeError):
        FORMATS["svd"].name = "other"  # type: ignore[misc]


def test_correction_lowers_the_sensitivity_of_als_and_the_homotopy_is_below_both() -> None:
    kernel, rank = gaussian(8, 8, 3, 3), (12,)
    als = ALSOptions(max_sweeps=300)
    plain = CPFormat("cp-als", als=als).factorise(kernel, LAYER, rank)
    corrected = CPFormat("cp-als-epc", als=als, epc=EPCOptions(max_sweeps=100)).factorise(kernel, LAYER, rank)
    stable = CPFormat("cp-epc").factorise(kernel, LAYER, rank)
    assert corrected.relative_error == pytest.approx(plain.relative_error, abs=1e-6)
    assert corrected.sensitivity < plain.sensitivity
    assert stable.sensitivity < plain.sensitivity


def test_the_options_of_a_format_reach_its_solver() -> None:
    kernel = gaussian(8, 8, 3, 3)
    one = CPFormat("cp-als", als=ALSOptions(max_sweeps=1)).factorise(kernel, LAYER, (6,))
    many = CPFormat("cp-als", als=ALSOptions(max_sweeps=200)).factorise(kernel, LAYER, (6,))
    assert many.relative_error < one.relative_error
