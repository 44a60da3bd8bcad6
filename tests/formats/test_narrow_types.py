"""Kernels in short types: the factors fit their range, or are refused; nothing becomes infinite in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cases import gaussian
from polyadic.decomposition import tucker2
from polyadic.errors import DecompositionError, LayerError
from polyadic.formats import format_named
from polyadic.formats.factored_kernel import error_of
from polyadic.schema import ConvSpec

WINDOW = ConvSpec(6, 8, (3, 3), (1, 1), (1, 1), (1, 1))
FORMATS = ["cp-epc", "cp-als", "cp4-epc", "tucker2", "tkd-cpd-epc", "spatial-svd", "tt", "tt-matrix"]
TYPES = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def kernel_of(dtype: torch.dtype, scale: float, spec: ConvSpec = WINDOW) -> Tensor:
    """Entries of up to ``scale`` times the largest number of the type, or its smallest normal one below 1e-3."""
    K = gaussian(*spec.weight_shape)
    kind = torch.finfo(dtype)
    return (K / K.abs().max() * (scale * kind.max if scale > 1e-3 else kind.tiny)).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scale", [0.9, 0.0])
def test_every_format_stays_in_the_range_of_every_type(name: str, dtype: torch.dtype, scale: float) -> None:
    fmt, kernel = format_named(name), kernel_of(dtype, scale)
    rank = tuple(max(1, most // 2) for most in fmt.largest_rank(WINDOW))
    found, wide = fmt.factorise(kernel, WINDOW, rank), fmt.factorise(kernel.double(), WINDOW, rank)
    assert all(weight.dtype == dtype and bool(torch.isfinite(weight.double()).all()) for weight in found.weights)
    assert found.relative_error <= wide.relative_error + 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TYPES)
def test_a_matrix_in_a_short_type_stays_in_range(dtype: torch.dtype) -> None:
    spec = ConvSpec(12, 10)
    found = format_named("svd").factorise(kernel_of(dtype, 0.9, spec), spec, (10,))
    assert found.relative_error <= 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FORMATS)
def test_candidates_of_a_short_type_are_found(name: str, dtype: torch.dtype) -> None:
    assert format_named(name).candidate_ranks(kernel_of(dtype, 0.9), WINDOW)


@pytest.mark.parametrize("name", ["tucker2", "cp-epc"])
def test_a_last_stage_that_was_fitted_out_of_range_shares_its_scale(name: str) -> None:
    fmt, kernel = format_named(name), kernel_of(torch.float16, 0.1)
    found = fmt.factorise(kernel, WINDOW, (3, 4) if name == "tucker2" else (9,))
    again = fmt.refitted(found, 1e5 * found.weights[-1].double(), kernel)
    assert all(bool(torch.isfinite(weight).all()) for weight in again.weights)
    expected = error_of(1e5 * kernel.double(), replace(again))
    assert expected == pytest.approx(found.relative_error, abs=0.02)


def test_what_no_division_of_the_scale_can_hold_is_refused() -> None:
    fmt, kernel = format_named("tucker2"), kernel_of(torch.float16, 0.1)
    found = fmt.factorise(kernel, WINDOW, (3, 4))
    with pytest.raises(LayerError, match=r"leave the range of torch\.float16"):
        fmt.refitted(found, 1e30 * found.weights[-1].double(), kernel)


def test_factors_that_cannot_share_their_scale_are_refused() -> None:
    with pytest.raises(DecompositionError, match=r"leave the range of torch\.float16"):
        tucker2(kernel_of(torch.float16, 0.9).flatten(2).permute(2, 1, 0), (6, 8))
