"""The interface of a rank search: it proposes plans from a problem and the trials so far, and nothing else.

The loop, the log and the scores belong to the pipeline. A search is a pure function of its history, so a run that was
interrupted goes on from its log to the same plan.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from polyadic.schema import Budget, Choice, Cost, Plan, Rank


@dataclass(frozen=True)
class Ladder:
    """The ranks of one layer in one format.

    Attributes:
        layer: name of the layer.
        format: name of the format.
        ranks: cheapest first; each is cheaper than the dense layer.
        macs: multiply-accumulates of the chain at each rank.
        dense_macs: those of the dense layer.
        params: numbers of the chain at each rank; none where nothing but MACs counts.
        dense_params: those of the dense layer.
        errors: relative error of the kernel at each rank, in the norm of its inputs where there are images; for
            strategies that want them (:attr:`RankSearch.wants_errors`).
        suggested: position of the rank that EVBMF suggests; for strategies that want it.
    """

    layer: str
    format: str
    ranks: tuple[Rank, ...]
    macs: tuple[int, ...]
    dense_macs: int
    params: tuple[int, ...] = ()
    dense_params: int = 0
    errors: tuple[float, ...] | None = None
    suggested: int | None = None

    def position(self, choice: Choice) -> int:
        """Where on the ladder the rank of ``choice`` stands."""
        return self.ranks.index(choice.rank)

    def within(self, macs: float) -> int:
        """The highest position that takes at most ``macs``; the first one where none does."""
        return max(bisect_right(self.macs, macs) - 1, 0)

    def only(self, positions: Sequence[int]) -> Ladder:
        """The same ladder with some of its ranks; a suggestion that is not among them is dropped."""
        kept = sorted(set(positions))
        return replace(
            self,
            ranks=tuple(self.ranks[at] for at in kept),
            macs=tuple(self.macs[at] for at in kept),
            params=tuple(self.params[at] for at in kept) if self.params else (),
            errors=tuple(self.errors[at] for at in kept) if self.errors is not None else None,
            suggested=kept.index(self.suggested) if self.suggested in kept else None,
        )

    def thinned(self, rungs: int) -> Ladder:
        """At most ``rungs`` ranks between the cheapest and the dearest, closer together where they are cheap.

        Evenly in the square root of the MACs: a rank more changes little where there are many.
        """
        low, high = self.macs[0] ** 0.5, self.macs[-1] ** 0.5
        steps = max(rungs - 1, 1)
        return self.only([self.within((low + (high - low) * n / steps) ** 2 * (1 + 1e-9)) for n in range(rungs)])


@dataclass(frozen=True)
class Problem:
    """What there is to choose from, layer after layer in the order of the network, and what is asked.

    With a ``budget`` the best network within it is looked for; without one, the cheapest (in MACs) whose drop before
    fine-tuning is ``allowed``.

    Attributes:
        ladders: one per layer and format.
        threshold: EPS of Phan et al. 2020, in points of score: what one layer may lose after its own fine-tuning.
        dense: cost of the dense network.
        budget: what the compressed network may cost.
        allowed: points that the whole network may lose before fine-tuning.
        number_bytes: of each number that a plan saves.
    """

    ladders: tuple[Ladder, ...]
    threshold: float = 0.0
    dense: Cost = field(default_factory=lambda: Cost(0, 0, 0))
    budget: Budget | None = None
    allowed: float = math.inf
    number_bytes: int = 4

    def cost(self, plan: Plan) -> Cost:
        """What the network costs with ``plan``, from integers alone."""
        params, macs = self.dense.params, self.dense.macs
        for choice in plan.choices:
            ladder = self.ladder(choice)
            position = ladder.position(choice)
            macs += ladder.macs[position] - ladder.dense_macs
            params += ladder.params[position] - ladder.dense_params if ladder.params else 0
        return self._cost(params, macs)

    def cost_after(self, saved_macs: int, saved_params: int) -> Cost:
        """What the network costs once so much is saved."""
        return self._cost(self.dense.params - saved_params, self.dense.macs - saved_macs)

    def admits(self, plan: Plan) -> bool:
        """Whether ``plan`` keeps the budget; yes where there is none."""
        return self.budget is None or self.budget.admits(self.cost(plan))

    def ladder(self, choice: Choice) -> Ladder:
        """The ladder that ``choice`` stands on."""
        return self._by_name[choice.layer, choice.format]

    def of_layer(self) -> dict[str, tuple[Ladder, ...]]:
        """The ladders of each layer, in the order of the network."""
        return self._by_layer

    def _cost(self, params: int, macs: int) -> Cost:
        return Cost(params, macs, self.dense.bytes + (params - self.dense.params) * self.number_bytes)

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Ladder]:
        return {(ladder.layer, ladder.format): ladder for ladder in self.ladders}

    @cached_property
    def _by_layer(self) -> dict[str, tuple[Ladder, ...]]:
        names = dict.fromkeys(ladder.layer for ladder in self.ladders)
        return {name: tuple(ladder for ladder in self.ladders if ladder.layer == name) for name in names}


@dataclass(frozen=True)
class Trial:
    """One plan that was tried.

    Attributes:
        plan: what was replaced.
        drop: points of score lost against the dense network.
        joint: whether the plan was tried as it is, untuned; such trials do not tell what fine-tuning a single layer
            would reach.
        final: whether fine-tuning was tried; it is not where the drop was small enough without.
        loss: mean Kullback-Leibler divergence of the outputs from the dense network's, in nats, where it was measured:
            it tells plans apart that lose equally many images.
    """

    plan: Plan
    drop: float
    final: bool = True
    joint: bool = False
    loss: float | None = None

    @property
    def harm(self) -> float:
        """What to compare untuned plans by: the loss, or the drop where there is none; infinite if not a number."""
        value = self.drop if self.loss is None else self.loss
        return value if math.isfinite(value) else math.inf

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        known = {"plan": self.plan.to_json(), "drop": self.drop, "final": self.final, "joint": self.joint}
        return known if self.loss is None else {**known, "loss": self.loss}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Trial:
        """The inverse of :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of another kind.
        """
        plan = Plan.from_json(record["plan"])
        loss = record.get("loss")
        return Trial(
            plan,
            float(record["drop"]),
            bool(record["final"]),
            bool(record["joint"]),
            None if loss is None else float(loss),
        )

    def verdict(self, threshold: float) -> bool | None:
        """Whether the plan stays within ``threshold``; None where fine-tuning, not yet done, could still decide."""
        if self.drop <= threshold:
            return True
        return False if self.final else None


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
        """Whether the ladders have to hold the error at each rank."""
        return False

    @property
    def wants_suggestions(self) -> bool:
        """Whether the ladders have to hold the rank that EVBMF suggests."""
        return False

    @abstractmethod
    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The next plan to try; None when there is nothing left to learn.

        ``running`` are plans that other workers are trying at this moment.
        """

    @abstractmethod
    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """The plan for the whole network."""

    @abstractmethod
    def expected_trials(self, problem: Problem) -> int:
        """About how many trials it will take, for the display of progress."""


def single(ladder: Ladder, position: int) -> Plan:
    """The plan that replaces one layer only."""
    return Plan((Choice(ladder.layer, ladder.format, ladder.ranks[position]),))


def verdicts(problem: Problem, trials: Sequence[Trial]) -> dict[Plan, bool]:
    """Which plans stayed within the threshold, as far as trials tell; of several trials of a plan the last counts."""
    known = {trial.plan: trial.verdict(problem.threshold) for trial in trials if not trial.joint}
    return {plan: verdict for plan, verdict in known.items() if verdict is not None}


def plan_of(chosen: Sequence[tuple[Ladder, int]]) -> Plan:
    """The plan of ladders and positions on them."""
    return Plan(tuple(Choice(ladder.layer, ladder.format, ladder.ranks[position]) for ladder, position in chosen))


def cheapest_kept(problem: Problem, trials: Sequence[Trial]) -> Plan:
    """Of the plans tried as they are, the one of fewest MACs that kept the allowed drop; empty if none did."""
    kept = [trial.plan for trial in trials if trial.joint and trial.drop <= problem.allowed]
    return min(kept, key=lambda plan: problem.cost(plan).macs, default=Plan())


def cheapest_plan(problem: Problem) -> Plan:
    """Every layer in the format and at the rank of fewest MACs (of fewest parameters where those are limited alone)."""
    limits = problem.budget.limits if problem.budget is not None else {}
    by_params = bool(limits) and "macs" not in limits

    def cost(option: tuple[Ladder, int]) -> int:
        ladder, at = option
        return ladder.params[at] if by_params and ladder.params else ladder.macs[at]

    layers = problem.of_layer().values()
    return plan_of(
        [min(((ladder, at) for ladder in ladders for at in range(len(ladder.ranks))), key=cost) for ladders in layers]
    )
