"""The interface of a rank search: it proposes plans from a problem and the trials so far, and nothing else.

The loop, the log and the scores belong to the pipeline. A search is a pure function of its history, so a run that was
interrupted goes on from its log to the same plan.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from polyadic.schema import Budget, Choice, Cost, Measure, Plan
from polyadic.schema import Trial as Trial
from polyadic.search.rank_candidates import RankCandidates


@dataclass(frozen=True)
class SearchSpace:
    """What there is to choose from, layer after layer in the order of the network, and what is asked.

    With a ``budget`` the best network within it is looked for; without one, the cheapest whose drop before fine-tuning
    is ``allowed``. Cheapest means fastest where the ladders hold times, and of fewest MACs otherwise.

    Attributes:
        ladders: one per layer and format.
        threshold: EPS of Phan et al. 2020, in points of score: what one layer may lose after its own fine-tuning.
        dense: cost of the dense network.
        budget: what the compressed network may cost.
        allowed: points that the whole network may lose before fine-tuning.
        number_bytes: of each number that a plan saves.
        refused: why a layer that formats serve has no ladder, by its name.
    """

    all_candidates: tuple[RankCandidates, ...]
    threshold: float = 0.0
    dense: Cost = field(default_factory=lambda: Cost(0, 0, 0))
    budget: Budget | None = None
    allowed: float = math.inf
    number_bytes: int = 4
    refused: Mapping[str, str] = field(default_factory=dict)

    def cost(self, plan: Plan) -> Cost:
        """What the network costs with ``plan``, from integers alone."""
        taken = [(self.candidates(choice), self.candidates(choice).position(choice)) for choice in plan.choices]
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

        Without a budget it is latency where the ladders hold times, and MACs otherwise.
        """
        timed = self.dense.latency is not None and all(candidates.times for candidates in self.all_candidates)
        limits = self.budget.limits if self.budget is not None else {"latency": 0.0, "macs": 0.0}
        if timed and "latency" in limits:
            return "latency"
        counted = "macs" in limits or not limits or not all(candidates.params for candidates in self.all_candidates)
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
        """Whether ``plan`` keeps the budget; yes where there is none."""
        return self.budget is None or self.budget.admits(self.cost(plan))

    def candidates(self, choice: Choice) -> RankCandidates:
        """The ladder that ``choice`` stands on."""
        return self._by_name[choice.layer, choice.format]

    def by_layer(self) -> dict[str, tuple[RankCandidates, ...]]:
        """The ladders of each layer, in the order of the network."""
        return self._by_layer

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], RankCandidates]:
        return {(candidates.layer, candidates.format): candidates for candidates in self.all_candidates}

    @cached_property
    def _by_layer(self) -> dict[str, tuple[RankCandidates, ...]]:
        names = dict.fromkeys(candidates.layer for candidates in self.all_candidates)
        return {
            name: tuple(candidates for candidates in self.all_candidates if candidates.layer == name) for name in names
        }


class RankSearch(ABC):
    """A strategy that finds formats and ranks."""

    @property
    def name(self) -> str:
        """On the command line."""
        return type(self).__name__.lower()

    @property
    def tunes_layers(self) -> bool:
        """Whether a proposed layer is fine-tuned alone before it is scored; otherwise plans are tried as they are."""
        return False

    @property
    def wants_few_ranks(self) -> bool:
        """Whether each rank on a ladder costs trials or a decomposition, so that ladders have to be short."""
        return True

    @property
    def wants_errors(self) -> bool:
        """Whether the ladders have to hold the error at each rank.

        A few of them are measured (:func:`polyadic.search.anchors`), and the others read off, so that ranks cost
        nothing and ladders are longer.
        """
        return False

    @property
    def wants_suggestions(self) -> bool:
        """Whether the ladders have to hold the rank that EVBMF suggests."""
        return False

    @abstractmethod
    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The next plan to try; None when there is nothing left to learn.

        ``running`` are plans that other workers are trying at this moment.
        """

    @abstractmethod
    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan for the whole network."""

    @abstractmethod
    def expected_trials(self, space: SearchSpace) -> int:
        """About how many trials it will take, for the display of progress."""


def single_layer_plan(candidates: RankCandidates, position: int) -> Plan:
    """The plan that replaces one layer only."""
    return Plan((Choice(candidates.layer, candidates.format, candidates.ranks[position]),))


def verdicts(space: SearchSpace, trials: Sequence[Trial]) -> dict[Plan, bool]:
    """Which plans stayed within the threshold, as far as trials tell; of several trials of a plan the last counts."""
    known = {trial.plan: trial.verdict(space.threshold) for trial in trials if not trial.joint}
    return {plan: verdict for plan, verdict in known.items() if verdict is not None}


def plan_of(chosen: Sequence[tuple[RankCandidates, int]]) -> Plan:
    """The plan of ladders and positions on them."""
    return Plan(
        tuple(
            Choice(candidates.layer, candidates.format, candidates.ranks[position]) for candidates, position in chosen
        )
    )


def cheapest_kept(space: SearchSpace, trials: Sequence[Trial]) -> Plan:
    """Of the plans tried as they are, the cheapest one that kept the allowed drop; empty if none did."""
    kept = [trial.plan for trial in trials if trial.joint and trial.drop <= space.allowed]
    return min(kept, key=space.figure, default=Plan())


def cheapest_plan(space: SearchSpace) -> Plan:
    """Every layer in the format and at the rank that cost least, by :attr:`Problem.measure`."""
    layers, measure = space.by_layer().values(), space.measure
    return plan_of(
        [
            min(
                ((candidates, at) for candidates in all_candidates for at in range(len(candidates.ranks))),
                key=lambda option: option[0].costs(measure)[option[1]],
            )
            for all_candidates in layers
        ]
    )
