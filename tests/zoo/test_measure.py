"""The parts that the rows of the zoo are made of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from zoo.measure import answer, difference, faults, measured, plan_exact, plan_within, rank_within
from zoo.networks import Network
from zoo.page import short
from zoo.random_weights import seeded

from polyadic.formats import format_named
from polyadic.schema import ConvSpec, LayerSite

MATRIX = ConvSpec(30, 20, bias=True)
WINDOW = ConvSpec(12, 16, (3, 3), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize("budget", [80, 119, 120, 320, 619, 620])
def test_a_matrix_takes_the_largest_rank_within_the_budget(budget: int) -> None:
    fitting = [rank for rank in range(1, 21) if 30 * rank + 20 * rank + 20 <= budget]
    assert rank_within(format_named("svd"), MATRIX, budget) == (fitting[-1],)


def test_a_window_takes_ranks_within_the_budget_that_leave_no_room_for_both_to_grow() -> None:
    found = rank_within(format_named("tucker2"), WINDOW, 864)
    assert found is not None
    R1, R2 = found
    assert 12 * R1 + 9 * R1 * R2 + 16 * R2 <= 864 < 12 * (R1 + 1) + 9 * (R1 + 1) * (R2 + 1) + 16 * (R2 + 1)


def test_no_rank_where_rank_one_is_above_the_budget() -> None:
    assert rank_within(format_named("svd"), MATRIX, 69) is None
    assert rank_within(format_named("svd"), MATRIX, 70) == (1,)


def test_a_layer_that_is_too_large_or_too_small_is_left_dense_and_says_so() -> None:
    sites = [LayerSite("large", "Linear", MATRIX), LayerSite("small", "Linear", ConvSpec(2, 2))]
    chosen = plan_within(sites, ratio=2.0, largest=600)
    assert chosen.plan.choices == ()
    assert [short(chosen.left[name]) for name in ("large", "small")] == ["too large here", "too small to halve"]
    assert [choice.layer for choice in plan_within(sites, ratio=2.0, largest=math.inf).plan.choices] == ["large"]
    assert [choice.rank for choice in plan_exact(sites, largest=600).plan.choices] == [(2,)]


def test_the_difference_is_relative_to_the_largest_number_and_infinite_between_shapes() -> None:
    wanted = torch.tensor([4.0, -8.0, 0.0])
    assert difference(wanted, torch.tensor([4.0, -8.0, 2.0])) == 0.25
    assert difference(wanted, torch.zeros(2)) == math.inf


def test_an_answer_is_all_tensors_of_nested_outputs() -> None:
    class Nested(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, object]:
            return {"maps": [x, (2 * x,)], "score": x.sum()[None]}

    assert answer(Nested(), torch.tensor([[1.0, 2.0]])).tolist() == [1, 2, 2, 4, 3]


def test_random_weights_are_the_same_every_time_and_leave_no_constant() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
        nn.init.zeros_(network[2].weight)
        return network

    first, second = seeded(build), seeded(build)
    assert not first.training
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert len(one.unique()) == one.numel(), name
    assert 0.5 <= float(first[1].running_var.min()) < float(first[1].running_var.max()) <= 1.5


def test_a_reason_without_a_short_form_stands_in_full() -> None:
    assert short("a reason that nobody has seen") == "a reason that nobody has seen"
    assert short("it shares its weight with tied.1") == "shared weight"


def row(full: float = 1e-15, macs: tuple[int, int] = (20, 10), unheard: tuple[str, ...] = ()) -> dict[str, object]:
    reduced = {"params": [8, 4], "macs": list(macs), "macs_foreseen": 10, "same_shape": True, "finite": True}
    return {"reduced": reduced, "full_rank": {"difference": full}, "unheard": list(unheard)}


def test_a_row_says_what_is_wrong_with_it() -> None:
    assert faults(row()) == []
    assert faults(row(full=1e-8)) == ["differs by 1e-08 at full rank"]
    assert faults(row(full=math.nan)) == ["differs by nan at full rank"]
    assert faults(row(macs=(20, 12))) == ["12 MACs, and its geometry says 10"]
    assert faults(row(macs=(10, 10))) == ["is not cheaper"]
    assert faults(row(unheard=("stem",))) == ["the output does not depend on stem"]
    assert faults({"error": "it broke"}) == ["it broke"]


def test_projections_of_attention_are_layers_of_a_row() -> None:
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 12)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.attention(x, x, x, need_weights=False)[0])
            return logits

    row = measured(Network("own:attentive", "test", Attentive, (1, 5, 16)), ratio=2.0, largest=1e6)
    assert (row["layers"], row["candidates"]) == (5, 5)
    assert row["reduced"]["macs"][0] == 4 * 5 * 16 * 16 + 2 * 5 * 5 * 16 + 5 * 16 * 12
    assert not faults(row)
