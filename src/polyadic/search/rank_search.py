"""The interface of a rank search: it proposes plans from a problem and the trials so far, and nothing else.

The loop, the log and the scores belong to the pipeline. A search is a pure function of its history, so a run that was
interrupted goes on from its log to the same plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyadic.schema import Choice, Plan, Rank


@dataclass(frozen=True)
class Ladder:
    """The ranks of one layer in one format.

    Attributes:
        layer: name of the layer.
        format: name of the format.
        ranks: cheapest first; each is cheaper than the dense layer.
        macs: multiply-accumulates of the chain at each rank.
        dense_macs: those of the dense layer.
    """

    layer: str
    format: str
    ranks: tuple[Rank, ...]
    macs: tuple[int, ...]
    dense_macs: int


@dataclass(frozen=True)
class Problem:
    """What there is to choose from, layer after layer in the order of the network, and the drop that one may cause.

    Attributes:
        ladders: one per layer and format.
        threshold: EPS of Phan et al. 2020, in points of score.
    """

    ladders: tuple[Ladder, ...]
    threshold: float


@dataclass(frozen=True)
class Trial:
    """One plan that was tried.

    Attributes:
        plan: what was replaced.
        drop: points of score lost against the dense network.
        joint: whether the plan was tried as a whole network, untuned; such trials do not count for single layers.
        final: whether fine-tuning was tried; it is not where the drop was small enough without.
    """

    plan: Plan
    drop: float
    final: bool = True
    joint: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"plan": self.plan.to_json(), "drop": self.drop, "final": self.final, "joint": self.joint}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Trial:
        """The inverse of :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of another kind.
        """
        plan = Plan.from_json(record["plan"])
        return Trial(plan, float(record["drop"]), bool(record["final"]), bool(record["joint"]))

    def verdict(self, threshold: float) -> bool | None:
        """Whether the plan stays within ``threshold``; None where fine-tuning, not yet done, could still decide."""
        if self.drop <= threshold:
            return True
        return False if self.final else None


class RankSearch(ABC):
    """A strategy that finds formats and ranks."""

    @abstractmethod
    def propose(self, problem: Problem, trials: Sequence[Trial]) -> Plan | None:
        """The next plan to try; None when there is nothing left to learn."""

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
