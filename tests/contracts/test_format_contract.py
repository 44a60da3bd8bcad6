"""What every format promises. A new format inherits these tests by standing in the registry."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from specs import (
    CONTRACT,
    LINEAR,
    POINTWISE,
    SERVED,
    SMALL_LAYERS,
    Case,
    bias_of,
    image_of,
    kernel_of,
    middle_rank,
    served_by,
)
from torch.utils.flop_counter import FlopCounterMode

from cases import gaussian
from oracles import dense_layer
from polyadic.errors import DecompositionError, LayerError
from polyadic.formats import FORMATS, FactoredKernel, Format
from polyadic.layers import TTLayer, empty_chain, filled_chain, spec_of
from polyadic.schema import ConvSpec, Rank, Stage, TTSpec, chain_macs, chain_params

every_format = pytest.mark.parametrize("fmt", CONTRACT.values(), ids=CONTRACT)
every_served_layer = pytest.mark.parametrize(("name", "layer"), SERVED)
every_quick_layer = pytest.mark.parametrize(  # long decompositions meet the 3 x 3 layer alone, unless all are asked for
    ("name", "layer"),
    [
        pytest.param(name, layer, marks=pytest.mark.slow if "epc" in name and layer != "3 x 3" else ())
        for name, layer in SERVED
    ],
)
# torch says so of the dense layer as of the chain
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def any_served(fmt: Format) -> ConvSpec:
    """The first small layer that the format serves."""
    return next(spec for spec in SMALL_LAYERS.values() if fmt.refuses(spec) is None)


def drawn(data: st.DataObject, fmt: Format, most_terms: int | None = None) -> tuple[Case, Rank]:
    """A layer that the format serves and a rank within its bounds: small, or the largest."""
    case = data.draw(served_by(fmt))
    largest = fmt.largest_rank(case[0])
    small = st.tuples(*(st.integers(1, min(most, most_terms or most)) for most in largest))
    return case, data.draw(st.one_of(small, st.just(largest)))


def in_every_way(stages: tuple[Stage, ...]) -> list[tuple[Stage, ...]]:
    """A tensor-train layer runs in two ways, which cost differently; every other layer runs in one."""
    if not any(isinstance(stage, TTSpec) for stage in stages):
        return [stages]
    ways = ("cores", "dense")
    return [tuple(stage.in_way(way) if isinstance(stage, TTSpec) else stage for stage in stages) for way in ways]


@every_format
@given(data=st.data())
def test_a_chain_of_the_largest_rank_is_the_dense_layer(fmt: Format, data: st.DataObject) -> None:
    spec, size = data.draw(served_by(fmt))
    kernel, bias, x = kernel_of(spec), bias_of(spec), image_of(spec, size)
    factored = fmt.factorise(kernel, spec, fmt.largest_rank(spec))
    expected = dense_layer(spec, kernel, bias)(x)
    torch.testing.assert_close(filled_chain(factored, bias, kernel)(x), expected, rtol=1e-10, atol=1e-10)
    assert factored.relative_error < 1e-10


@every_format
@given(data=st.data())
@settings(max_examples=12)
def test_a_chain_is_the_single_layer_with_its_dense_kernel(fmt: Format, data: st.DataObject) -> None:
    (spec, size), rank = drawn(data, fmt, most_terms=6)
    kernel, bias, x = kernel_of(spec), bias_of(spec), image_of(spec, size)
    factored = fmt.factorise(kernel, spec, rank)
    dense = factored.dense_kernel()
    assert dense.shape == kernel.shape
    expected = dense_layer(spec, dense, bias)(x)
    torch.testing.assert_close(filled_chain(factored, bias, kernel)(x), expected, rtol=1e-10, atol=1e-10)
    assert factored.relative_error == pytest.approx(float((kernel - dense).norm() / kernel.norm()), abs=1e-10)


@every_format
@given(data=st.data())
def test_weights_fit_their_stages_and_stages_the_layer(fmt: Format, data: st.DataObject) -> None:
    (spec, size), rank = drawn(data, fmt)
    stages = fmt.stages(spec, rank)
    modules = empty_chain(stages, torch.empty(0))
    assert tuple(module.spec if isinstance(module, TTLayer) else spec_of(module) for module in modules) == stages
    assert (stages[0].in_channels, stages[-1].out_channels) == (spec.in_channels, spec.out_channels)
    assert all(before.out_channels == after.in_channels for before, after in pairwise(stages))
    assert [stage.bias for stage in stages] == [False] * (len(stages) - 1) + [spec.bias]
    seen = size
    for stage in stages:
        seen = stage.output_size(seen)
    assert seen == spec.output_size(size)


@every_format
@given(data=st.data())
@settings(max_examples=15)
def test_params_and_macs_are_what_torch_counts(fmt: Format, data: st.DataObject) -> None:
    (spec, size), rank = drawn(data, fmt)
    for stages in in_every_way(fmt.stages(spec, rank)):
        chain = filled_chain(random_chain(fmt, stages, rank), bias_of(spec), torch.empty(0, dtype=torch.float64))
        assert chain_params(stages) == sum(p.numel() for p in chain.parameters())
        x = image_of(spec, size, samples=1)
        with torch.no_grad():
            chain(x)  # a tensor-train layer that runs dense contracts its kernel in the first pass alone
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            y = chain(x)
        assert chain_macs(stages, size) == counter.get_total_flops() // 2
        assert y.shape == (1, spec.out_channels, *spec.output_size(size))


@every_served_layer
def test_saved_and_loaded_a_chain_answers_the_same_to_the_bit(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    stages = in_every_way(fmt.stages(spec, middle_rank(fmt, spec)))[0]
    chain = filled_chain(random_chain(fmt, stages, middle_rank(fmt, spec)), bias_of(spec), kernel_of(spec))
    other = empty_chain(stages, kernel_of(spec))
    other.load_state_dict(load(save(chain.state_dict())))
    x = image_of(spec, (7,) * spec.axes)
    assert torch.equal(other(x), chain(x))


def random_chain(fmt: Format, stages: tuple[Stage, ...], rank: Rank) -> FactoredKernel:
    """Stages with random weights: a count needs no decomposition."""
    return FactoredKernel(fmt.name, rank, stages, tuple(kernel_of(stage) for stage in stages), 0.0, "")


@every_quick_layer
def test_rank_after_rank_the_chain_costs_more_and_errs_less(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    kernel = kernel_of(spec)
    candidates = fmt.candidate_ranks(kernel, spec)
    costs = [chain_params(fmt.stages(spec, rank)) for rank in candidates]
    assert costs == sorted(costs)
    for rank in candidates:
        fmt.check(spec, rank)
    ranks = candidates[:: max(1, len(candidates) // 4)] + candidates[-1:]
    errors = [fmt.factorise(kernel, spec, rank).relative_error for rank in ranks]
    assert all(later <= earlier + 1e-7 for earlier, later in pairwise(errors))
    assert errors[-1] < errors[0]


@every_served_layer
def test_a_zero_kernel_has_candidate_ranks_and_is_met_exactly(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    zero = torch.zeros(spec.weight_shape, dtype=torch.float64)
    candidates = fmt.candidate_ranks(zero, spec)
    assert candidates
    factored = fmt.factorise(zero, spec, candidates[0])
    assert factored.relative_error == 0.0
    assert not factored.dense_kernel().any()


@every_quick_layer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_types_come_back_with_the_error_of_their_own_digits(name: str, layer: str, dtype: torch.dtype) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    kernel = kernel_of(spec).to(dtype)
    factored = fmt.factorise(kernel, spec, middle_rank(fmt, spec))
    assert {weight.dtype for weight in factored.weights} == {dtype}
    doubled = replace(factored, weights=tuple(weight.double() for weight in factored.weights)).dense_kernel()
    measured = float((kernel.double() - doubled).norm() / kernel.double().norm())
    assert factored.relative_error == pytest.approx(measured, abs=1e-10)
    exact = fmt.factorise(kernel, spec, fmt.largest_rank(spec))
    assert exact.relative_error < 8 * torch.finfo(dtype).eps


@every_quick_layer
def test_the_same_seed_gives_the_same_weights_bit_for_bit(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    rank = middle_rank(fmt, spec)
    first, second = (fmt.factorise(kernel_of(spec), spec, rank, seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    assert first.relative_error == second.relative_error


@every_quick_layer
def test_a_kernel_in_any_memory_layout_and_with_a_graph_is_served(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    rank, kernel = middle_rank(fmt, spec), kernel_of(spec)
    order = tuple(reversed(range(kernel.ndim)))
    scattered = torch.nn.Parameter(kernel.permute(order).contiguous().permute(order))
    factored = fmt.factorise(scattered, spec, rank)
    assert factored.relative_error == pytest.approx(fmt.factorise(kernel, spec, rank).relative_error, rel=1e-6)
    assert all(weight.is_contiguous() and not weight.requires_grad for weight in factored.weights)


@every_format
def test_every_layer_is_served_or_refused_with_a_sentence(fmt: Format) -> None:
    for spec in SMALL_LAYERS.values():
        reason = fmt.refuses(spec)
        assert reason is None or len(reason.split()) > 5
    assert any(fmt.refuses(spec) is None for spec in SMALL_LAYERS.values())


@every_format
def test_ranks_out_of_bounds_are_layer_errors_that_name_the_bound(fmt: Format) -> None:
    spec = any_served(fmt)
    largest = fmt.largest_rank(spec)
    kernel = kernel_of(spec)
    fmt.check(spec, largest)
    fmt.check(spec, (1,) * len(largest))
    for position in range(len(largest)):
        for value in (0, -1, largest[position] + 1):
            rank = (*largest[:position], value, *largest[position + 1 :])
            with pytest.raises(LayerError, match=r"out of bounds.*ranks lie between 1 and"):
                fmt.factorise(kernel, spec, rank)
    for wrong in ((), (*largest, 1)):
        with pytest.raises(LayerError, match=rf"takes {len(largest)} rank\(s\)"):
            fmt.factorise(kernel, spec, wrong)


@every_format
def test_a_kernel_of_another_shape_is_refused(fmt: Format) -> None:
    spec = any_served(fmt)
    wrong = gaussian(spec.out_channels + 1, *spec.weight_shape[1:])
    with pytest.raises(LayerError, match="the layer's kernel has shape"):
        fmt.factorise(wrong, spec, (1,) * len(fmt.largest_rank(spec)))


@every_format
def test_weights_with_nan_are_a_decomposition_error(fmt: Format) -> None:
    spec = any_served(fmt)
    with pytest.raises(DecompositionError, match="NaN or Inf"):
        fmt.factorise(kernel_of(spec) * torch.nan, spec, (1,) * len(fmt.largest_rank(spec)))


@every_served_layer
def test_stages_survive_json(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    stages = fmt.stages(spec, middle_rank(fmt, spec))
    back = json.loads(json.dumps([asdict(stage) for stage in stages]))
    assert tuple(from_json(stage) for stage in back) == stages


def from_json(stage: dict[str, Any]) -> Stage:
    """A spec from its JSON, where tuples have become lists."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stage.items()}
    if "dense" not in values:
        return ConvSpec(**values)
    dense = from_json(values.pop("dense"))
    assert isinstance(dense, ConvSpec)
    return TTSpec(dense, **values)


@every_quick_layer
def test_the_report_says_who_made_it_and_why_it_stopped(name: str, layer: str) -> None:
    fmt, spec = CONTRACT[name], SMALL_LAYERS[layer]
    factored = fmt.factorise(kernel_of(spec), spec, middle_rank(fmt, spec))
    assert (factored.format, factored.rank) == (name, middle_rank(fmt, spec))
    assert factored.stages == fmt.stages(spec, factored.rank)
    assert len(factored.stop.split()) >= 3
    if "cp" in name:
        assert factored.sensitivity is not None
        assert factored.sensitivity > 0
        assert factored.intensity_ratio is not None
        assert factored.intensity_ratio >= 1
    else:
        assert factored.sensitivity is None


def test_the_small_layers_cover_both_sides_of_the_house() -> None:
    assert {layer for _, layer in SERVED} == set(SMALL_LAYERS)
    assert {fmt for fmt, _ in SERVED} == set(FORMATS) == set(CONTRACT)
    assert (POINTWISE.taps, LINEAR.taps) == (1, 1)
