"""A rank by number, ratio or error, against trying every candidate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cases import gaussian
from polyadic.errors import LayerError
from polyadic.formats import format_named, rank_for
from polyadic.schema import ConvSpec, chain_params

WINDOW = ConvSpec(6, 5, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
LAYERS = {
    "svd": ConvSpec(12, 10, bias=True),
    "spatial-svd": WINDOW,
    "tucker2": WINDOW,
    "tt": WINDOW,
    "tt-matrix": WINDOW,
    "cp-epc": WINDOW,
}
by_format = pytest.mark.parametrize("name", LAYERS)


def numbers(name: str, rank: tuple[int, ...]) -> int:
    """In the chain, without the bias."""
    spec = LAYERS[name]
    return chain_params(format_named(name).stages(spec, rank)) - spec.out_channels


@by_format
def test_a_rank_that_is_given_is_checked_and_taken(name: str) -> None:
    fmt, spec = format_named(name), LAYERS[name]
    kernel, largest = gaussian(*spec.weight_shape), fmt.largest_rank(spec)
    assert rank_for(fmt, kernel, spec, rank=largest) == largest
    with pytest.raises(LayerError, match="out of bounds"):
        rank_for(fmt, kernel, spec, rank=(*largest[:-1], largest[-1] + 1))


@by_format
@given(ratio=st.floats(0.25, 8.0))
@settings(max_examples=6)
def test_by_ratio_it_is_the_largest_rung_that_saves_so_much(name: str, ratio: float) -> None:
    fmt, spec = format_named(name), LAYERS[name]
    kernel = gaussian(*spec.weight_shape)
    within = [rank for rank in fmt.candidate_ranks(kernel, spec) if numbers(name, rank) * ratio <= kernel.numel()]
    if within:
        assert rank_for(fmt, kernel, spec, ratio=ratio) == within[-1]
    else:
        with pytest.raises(LayerError, match="ask for less"):
            rank_for(fmt, kernel, spec, ratio=ratio)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "cp-epc"])
@given(error=st.floats(0.0, 0.95))
@example(error=0.6953125)  # two ranks of Tucker-2 keep it with one between them that does not
@settings(max_examples=6)
def test_by_error_a_candidate_keeps_the_bound_and_the_one_before_it_does_not(name: str, error: float) -> None:
    """Where the error falls from candidate to candidate, that is the smallest."""
    fmt, spec = format_named(name), LAYERS[name]
    kernel = gaussian(*spec.weight_shape)
    candidates = fmt.candidate_ranks(kernel, spec)
    errors = [fmt.factorise(kernel, spec, rank).relative_error for rank in candidates]
    keeps = [one <= max(error, 1e-6) for one in errors]
    at = candidates.index(rank_for(fmt, kernel, spec, error=error))
    assert keeps[at]
    assert at == 0 or not keeps[at - 1]
    if name != "tucker2":
        assert not any(keeps[:at])


def test_a_ratio_that_no_rank_reaches_is_refused_with_the_best_there_is() -> None:
    spec = LAYERS["svd"]
    with pytest.raises(LayerError, match=r"at least 22 numbers here, 5.45x fewer than the 120 .*ratio = 6: ask"):
        rank_for(format_named("svd"), gaussian(10, 12), spec, ratio=6)


def test_groups_count_in_the_ratio() -> None:
    spec = ConvSpec(12, 8, (1,), (1,), (0,), (1,), groups=2)
    kernel = gaussian(*spec.weight_shape)  # 2 groups of 4 x 6; rank R holds 2 R (4 + 6)
    assert rank_for(format_named("svd"), kernel, spec, ratio=48 / 40) == (2,)
    assert rank_for(format_named("svd"), kernel, spec, ratio=48 / 39) == (1,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_error_is_kept_up_to_the_digits_of_the_weights(dtype: torch.dtype) -> None:
    fmt, spec = format_named("tt"), LAYERS["tt"]
    kernel = gaussian(*spec.weight_shape).to(dtype)
    found = rank_for(fmt, kernel, spec, error=0.0)
    assert fmt.factorise(kernel, spec, found).relative_error <= 8 * torch.finfo(dtype).eps


def test_a_low_rank_is_found_by_its_error() -> None:
    spec = LAYERS["svd"]
    assert rank_for(format_named("svd"), gaussian(10, 3) @ gaussian(3, 12), spec, error=0.0) == (3,)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, r"by number, ratio or error; got rank = None, ratio = None, error = None"),
        ({"ratio": 2.0, "error": 0.1}, r"by number, ratio or error; got .*ratio = 2.0, error = 0.1"),
        ({"rank": (1,), "ratio": 2.0}, r"by number, ratio or error"),
        ({"ratio": 0.0}, "above 0; got 0"),
        ({"ratio": -1.0}, "above 0; got -1"),
        ({"ratio": float("nan")}, "above 0; got nan"),
        ({"error": 1.0}, "got 1.0"),
        ({"error": -0.1}, "got -0.1"),
        ({"error": float("nan")}, "got nan"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        rank_for(format_named("svd"), gaussian(10, 12), LAYERS["svd"], **asked)


def test_a_layer_that_the_format_refuses_has_no_rank() -> None:
    with pytest.raises(LayerError, match="svd cannot be used here"):
        rank_for(format_named("svd"), gaussian(5, 6, 3, 3), WINDOW, ratio=2.0)
