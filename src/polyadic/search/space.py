"""What a search chooses from: layers, their candidate ranks, and what is asked of the whole network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from polyadic.schema import Budget, Choice, Cost, Measure, Plan
from polyadic.search.rank_candidates import RankCandidates

Candidate = tuple[RankCandidates, int]
"""Candidates, and a position among them: one rank of one layer in one format."""


@dataclass(frozen=True)
class SearchSpace:
    """The candidates of every layer, in the order of the network, and what is asked.

    With a ``budget`` the best network within it is looked for; without one, the cheapest whose drop before fine-tuning
    is ``allowed``. Cheapest means fastest where the candidates hold times, and of fewest MACs otherwise.

    Attributes:
        candidates: one per layer and format.
        threshold: EPS of Phan et al. 2020, in points of score: what one layer may lose after its own fine-tuning.
        dense: cost of the dense network.
        budget: what the compressed network may cost.
        allowed: points that the whole network may lose before fine-tuning.
        number_bytes: of each number that a plan saves.
        refused: why a layer that formats serve has no candidates, by its name.
    """

    candidates: tuple[RankCandidates, ...]
    threshold: float = 0.0
    dense: Cost = field(default_factory=lambda: Cost(0, 0, 0))
    budget: Budget | None = None
    allowed: float = math.inf
    number_bytes: int = 4
    refused: Mapping[str, str] = field(default_factory=dict)

    def candidates_for(self, choice: Choice) -> RankCandidates:
        """The candidates that ``choice`` is one of: those of its layer in its format."""
        return self._by_name[choice.layer, choice.format]

    def by_layer(self) -> dict[str, tuple[RankCandidates, ...]]:
        """The candidates of each layer, one per format, in the order of the network."""
        return self._by_layer

    def cost(self, plan: Plan) -> Cost:
        """What the network costs with ``plan``, from integers alone."""
        chosen = [(self.candidates_for(choice), choice) for choice in plan.choices]
        taken = [(candidates, candidates.position(choice)) for candidates, choice in chosen]
        macs, params, latency = (
            sum(candidates.saved(at, measure) for candidates, at in taken) for measure in ("macs", "params", "latency")
        )
        return self.cost_after(int(macs), int(params), latency)

    def cost_after(self, saved_macs: int, saved_params: int, saved_latency: float = 0.0) -> Cost:
        """What the network costs once so much is saved."""
        dense = self.dense
        return Cost(
            dense.params - saved_params,
            dense.macs - saved_macs,
            dense.bytes - saved_params * self.number_bytes,
            None if dense.latency is None else dense.latency - saved_latency,
        )

    @property
    def measure(self) -> Measure:
        """What cost means where it has to be one number: the first of latency, MACs and parameters that is limited.

        Without a budget it is latency where the candidates hold times, and MACs otherwise.
        """
        timed = self.dense.latency is not None and all(candidates.times for candidates in self.candidates)
        limits = self.budget.limits if self.budget is not None else {"latency": 0.0, "macs": 0.0}
        if timed and "latency" in limits:
            return "latency"
        counted = "macs" in limits or not limits or not all(candidates.params for candidates in self.candidates)
        return "macs" if counted else "params"

    def figure(self, plan: Plan) -> float:
        """What the network costs with ``plan``, by :attr:`measure`."""
        return float(getattr(self.cost(plan), self.measure))

    @property
    def dense_figure(self) -> float:
        """What the dense network costs, by :attr:`measure`; above 0, to be divided by."""
        cost = float(getattr(self.dense, self.measure))
        return cost if cost > 0 else 1.0

    def limited(self, share: float) -> SearchSpace:
        """The same layers under a budget: that share of the dense network, by :attr:`measure`."""
        limit = share * float(getattr(self.dense, self.measure))
        if self.measure == "latency":
            return replace(self, budget=Budget(latency=limit))
        return replace(self, budget=Budget(**{self.measure: max(int(limit), 1)}))

    def admits(self, plan: Plan) -> bool:
        """Whether ``plan`` keeps the budget; True where there is none."""
        return self.budget is None or self.budget.admits(self.cost(plan))

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], RankCandidates]:
        return {(candidates.layer, candidates.format): candidates for candidates in self.candidates}

    @cached_property
    def _by_layer(self) -> dict[str, tuple[RankCandidates, ...]]:
        names = dict.fromkeys(candidates.layer for candidates in self.candidates)
        return {name: tuple(one for one in self.candidates if one.layer == name) for name in names}


def single_layer_plan(candidates: RankCandidates, position: int) -> Plan:
    """The plan that replaces one layer only."""
    return plan_of([(candidates, position)])


def plan_of(chosen: Iterable[Candidate]) -> Plan:
    """The plan of candidates and positions among them."""
    return Plan(
        tuple(
            Choice(candidates.layer, candidates.format, candidates.ranks[position]) for candidates, position in chosen
        )
    )


def cheapest_plan(space: SearchSpace) -> Plan:
    """Every layer in the format and at the rank that cost least, by :attr:`SearchSpace.measure`."""
    measure = space.measure
    return plan_of(
        min(
            ((candidates, at) for candidates in formats for at in range(len(candidates.ranks))),
            key=lambda option: option[0].costs(measure)[option[1]],
        )
        for formats in space.by_layer().values()
    )
