"""The interface of a strategy: it proposes plans from a search space and the trials so far, and nothing else.

The loop, the log and the scores belong to the pipeline. A strategy is a pure function of its history, so a run that was
interrupted goes on from its trials to the same plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from polyadic.schema import Plan, Trial
from polyadic.search.space import SearchSpace


class RankSearch(ABC):
    """A strategy that finds formats and ranks.

    Attributes:
        tunes_layers: whether a proposed layer is fine-tuned alone before it is scored; otherwise plans are tried as
            they are.
        wants_few_ranks: whether each candidate rank costs trials or a decomposition, so that there have to be few.
        wants_errors: whether candidates have to hold the error at each rank. A few of them are measured
            (:func:`polyadic.search.anchors`), and the others read off, so that ranks cost nothing and may be more.
        wants_suggestions: whether candidates have to hold the rank that EVBMF suggests.
    """

    name: ClassVar[str]
    """On the command line."""

    tunes_layers: ClassVar[bool] = False
    wants_few_ranks: ClassVar[bool] = True
    wants_errors: ClassVar[bool] = False
    wants_suggestions: ClassVar[bool] = False

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


def verdicts(space: SearchSpace, trials: Sequence[Trial]) -> dict[Plan, bool]:
    """Which plans stayed within the threshold, as far as trials tell; of several trials of a plan the last counts."""
    known = {trial.plan: trial.verdict(space.threshold) for trial in trials if not trial.joint}
    return {plan: verdict for plan, verdict in known.items() if verdict is not None}


def best_within(space: SearchSpace, trials: Sequence[Trial]) -> Plan | None:
    """Of the plans tried as they are, the one of least loss within the budget; None if none is within."""
    within = [trial for trial in trials if trial.joint and space.admits(trial.plan)]
    return min(within, key=lambda trial: trial.loss).plan if within else None


def cheapest_kept(space: SearchSpace, trials: Sequence[Trial]) -> Plan:
    """Of the plans tried as they are, the cheapest one that kept the allowed drop; empty if none did."""
    kept = [trial.plan for trial in trials if trial.joint and trial.drop <= space.allowed]
    return min(kept, key=space.figure, default=Plan())
