"""Layers of several groups: chains side by side, whatever the format."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import CONTRACT, grouped, kernel_of
from torch import Tensor

from cases import gaussian
from polyadic.algebra import CPTensor
from polyadic.decomposition import InputNorm
from polyadic.errors import LayerError
from polyadic.formats import Format
from polyadic.schema import ConvSpec, Rank

WINDOW = ConvSpec(3, 4, (3, 2), (2, 1), (1, 0), (1, 1), bias=True)
SPREAD = replace(WINDOW, transposed=True, output_padding=(1, 0))
MATRIX = ConvSpec(4, 3, (1,), (1,), (0,), (1,))
REPEATED = {name: fmt for name, fmt in CONTRACT.items() if fmt.repeatable}
every_repeatable = pytest.mark.parametrize("fmt", REPEATED.values(), ids=REPEATED)


def one_group(fmt: Format, transposed: bool = False) -> ConvSpec:
    """A layer of one group that the format serves."""
    window = SPREAD if transposed else WINDOW
    return window if fmt.refuses(window) is None else MATRIX


def ranks(fmt: Format, spec: ConvSpec) -> Rank:
    return tuple(min(most, 3) for most in fmt.largest_rank(spec))


@every_repeatable
@given(groups=st.integers(2, 3), transposed=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=4)
def test_groups_are_factorised_as_if_each_stood_alone(fmt: Format, groups: int, transposed: bool, seed: int) -> None:
    one = one_group(fmt, transposed)
    spec = one.repeated(groups)
    kernel, rank = kernel_of(spec, seed), ranks(fmt, one)
    factored = fmt.factorise(kernel, spec, rank, seed=seed)
    alone = [fmt.factorise(K, one, rank, seed=seed) for K in kernel.chunk(groups)]
    expected = torch.cat([each.dense_kernel() for each in alone])
    # all groups go through the solver in one batch, which rounds otherwise
    torch.testing.assert_close(factored.dense_kernel(), expected, rtol=1e-6, atol=1e-6)
    squared = sum((each.relative_error * K.norm()) ** 2 for each, K in zip(alone, kernel.chunk(groups), strict=True))
    assert factored.relative_error == pytest.approx(float(squared.sqrt() / kernel.norm()), rel=1e-6)


@every_repeatable
def test_the_chain_of_groups_is_that_of_one_with_as_many_channels_for_each(fmt: Format) -> None:
    one = one_group(fmt)
    spec, rank = one.repeated(3), ranks(fmt, one)
    assert fmt.largest_rank(spec) == fmt.largest_rank(one)
    for whole, part in zip(fmt.stages(spec, rank), fmt.stages(one, rank), strict=True):
        assert whole == replace(
            part,
            in_channels=3 * part.in_channels,
            out_channels=3 * part.out_channels,
            groups=3 * part.groups,
        )


@every_repeatable
def test_the_largest_group_decides_which_ranks_are_climbed(fmt: Format) -> None:
    one = one_group(fmt)
    small, large = kernel_of(one), 10 * kernel_of(one, seed=1)
    expected = fmt.candidate_ranks(large, one)
    assert fmt.candidate_ranks(torch.cat([small, large, small]), one.repeated(3)) == expected
    assert fmt.candidate_ranks(torch.cat([large, small]), one.repeated(2)) == expected


@every_repeatable
def test_groups_are_decomposed_in_the_plain_norm(fmt: Format) -> None:
    one = one_group(fmt)
    spec, rank = one.repeated(2), ranks(fmt, one)
    x = gaussian(50, spec.in_channels, seed=3)
    plain = fmt.factorise(kernel_of(spec), spec, rank)
    asked = fmt.factorise(kernel_of(spec), spec, rank, norm=InputNorm.of(x.mT @ x))
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, asked.weights, strict=True))
    assert asked.weighted_error is None


@pytest.mark.parametrize("name", ["cp-epc", "cp-als", "cp4-epc"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_the_sensitivity_is_how_much_the_kernel_moves_when_its_factors_do(name: str, groups: int) -> None:
    """By its definition: the squared Jacobian of ``K / ||K||`` in all entries of all factors."""
    fmt, spec = CONTRACT[name], WINDOW.repeated(groups)
    scales = torch.tensor([1.0, 5.0, 0.1]).double()[:groups].repeat_interleave(4).reshape(-1, 1, 1, 1)
    kernel = scales * kernel_of(spec)
    factored = fmt.factorise(kernel, spec, (4,))
    columns: list[Tensor] = []
    for *inner, outer in zip(*(weight.chunk(groups) for weight in factored.weights), strict=True):
        cp = CPTensor((*(weight.flatten(1).mT for weight in inner), outer.flatten(1)))
        columns += cp.scaled(1 / float(kernel.norm())).rescaled().factors
    order = len(factored.weights)

    def kernels(*factors: Tensor) -> Tensor:
        letters = "abcd"[:order]
        terms = ",".join(f"{letter}r" for letter in letters)
        parts = [factors[first : first + order] for first in range(0, len(factors), order)]
        return torch.stack([torch.einsum(f"{terms}->{letters}", *part) for part in parts])

    jacobians = torch.autograd.functional.jacobian(kernels, tuple(columns))
    moved = sum(float(jacobian.square().sum()) for jacobian in jacobians)
    assert factored.sensitivity == pytest.approx(moved, rel=1e-9)


@pytest.mark.parametrize("name", ["cp-epc", "cp-als-epc", "cp4-epc"])
def test_a_refitted_chain_of_groups_keeps_its_kernel_and_its_own_stability(name: str) -> None:
    fmt, spec = CONTRACT[name], WINDOW.repeated(2)
    kernel = kernel_of(spec)
    factored = fmt.factorise(kernel, spec, (4,))
    column = torch.arange(1.0, 5.0, dtype=torch.float64).reshape(1, 4, 1, 1)
    last = column * factored.weights[-1]
    refitted = fmt.refitted(factored, last, kernel)
    expected = replace(factored, weights=(*factored.weights[:-1], last)).dense_kernel()
    torch.testing.assert_close(refitted.dense_kernel(), expected, rtol=1e-10, atol=1e-10)
    assert refitted.relative_error == pytest.approx(float((kernel - expected).norm() / kernel.norm()), rel=1e-9)
    again = fmt.refitted(refitted, refitted.weights[-1], kernel)
    assert refitted.sensitivity == pytest.approx(again.sensitivity, rel=1e-9)
    assert refitted.sensitivity != pytest.approx(factored.sensitivity, rel=1e-3)


def test_a_group_of_zeros_is_met_exactly_beside_others() -> None:
    for fmt in REPEATED.values():
        one = one_group(fmt)
        kernel = torch.cat([torch.zeros(one.weight_shape, dtype=torch.float64), kernel_of(one)])
        factored = fmt.factorise(kernel, one.repeated(2), ranks(fmt, one))
        assert not factored.dense_kernel().chunk(2)[0].any()
        assert factored.relative_error < 1


@pytest.mark.parametrize("fmt", CONTRACT.values(), ids=CONTRACT)
def test_depthwise_layers_are_refused_with_a_sentence(fmt: Format) -> None:
    spec = grouped(replace(one_group(fmt), in_channels=6, out_channels=12), 6)
    assert fmt.refuses(spec) == "a depthwise convolution has no channel mixing left to factorise"
    with pytest.raises(LayerError, match="cannot be used here: a depthwise convolution"):
        fmt.factorise(kernel_of(spec), spec, fmt.largest_rank(spec))


def test_a_train_over_all_channels_refuses_groups() -> None:
    spec = ConvSpec(8, 8, (3, 3), (1, 1), (1, 1), (1, 1), groups=2)
    assert "tt-matrix runs over all channels of a layer, and groups = 2" in str(CONTRACT["tt-matrix"].refuses(spec))
