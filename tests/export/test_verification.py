from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from polyadic.errors import EngineError
from polyadic.export.network_files import LIMIT, Comparison, compare_outputs


class Twice(nn.Module):
    """Numbers and, as a second output, their sums."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, x.sum(1)


X = torch.tensor([[1.0, 2.0, -4.0], [0.5, 0.25, 0.0]])


def shifted(by: tuple[float, float]) -> Comparison:
    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, second = Twice()(*inputs)
        return torch.cat((first[:, :1] + by[0], first[:, 1:]), 1), second + by[1]

    return compare_outputs(Twice(), run, (X,))


def test_differences_are_those_of_the_definition() -> None:
    found = shifted((0.5, -0.25))
    # eager: 2x with largest 8, sums (-1, 0.75) with largest 1; eight numbers in all
    assert found.batch == 2
    assert found.max_difference == 0.5
    assert found.mean_difference == pytest.approx((2 * 0.5 + 2 * 0.25) / 8)
    assert found.relative == pytest.approx(max(0.5 / 8, 0.25 / 1))
    assert not found.agrees


def test_top_1_counts_positions_whose_largest_channel_is_another() -> None:
    assert shifted((0.0, 0.0)).top1_agreement == 1.0
    assert shifted((4.0, 0.0)).top1_agreement == 0.5  # (2, 4, -8) becomes (6, 4, -8); (1, 0.5, 0) stays in order
    one = compare_outputs(nn.Identity(), lambda inputs: inputs, (X[:, :1],))
    assert one.top1_agreement is None


def test_agreement_ends_at_the_limit() -> None:
    assert shifted((0.9 * LIMIT * 8, 0.0)).agrees
    assert not shifted((1.1 * LIMIT * 8, 0.0)).agrees


@pytest.mark.parametrize("by", [(math.nan, 0.0), (0.0, math.nan), (math.inf, 0.0)])
def test_what_is_no_number_does_not_agree(by: tuple[float, float]) -> None:
    assert not shifted(by).agrees


def test_zeros_agree_with_zeros_alone() -> None:
    zero = torch.zeros(2, 3)
    assert compare_outputs(nn.Identity(), lambda inputs: inputs, (zero,)).relative == 0.0
    assert not compare_outputs(nn.Identity(), lambda inputs: (inputs[0] + 1e-30,), (zero,)).agrees


@pytest.mark.parametrize("given", [(X,), (2 * X, X.sum(1), X), (2 * X, X)])
def test_outputs_of_another_number_or_shape_are_refused(given: tuple[Tensor, ...]) -> None:
    with pytest.raises(EngineError, match=r"outputs of shape \[\(2, 3\), \(2,\)\] were expected"):
        compare_outputs(Twice(), lambda _: given, (X,))
