"""What a search is written down in, whether one worker keeps it or several share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from polyadic.schema import Plan
from polyadic.search.rank_search import Trial


class TrialStore(Protocol):
    """Finished trials, and the plans that are being tried; :class:`TrialLog` and :class:`StudyLog` are such.

    Before a plan is tried it is claimed; afterwards its trial is added, or the claim released.
    """

    @property
    def trials(self) -> Sequence[Trial]:
        """Finished trials of all workers, in the order in which they were begun."""

    @property
    def running(self) -> Sequence[Plan]:
        """Plans that somebody is trying at this moment. Read it before :attr:`trials`: what ends meanwhile is in both.

        A worker that has died is noticed here, and its plan is free again.
        """

    def claim(self, plan: Plan) -> bool:
        """Let the others know that this worker tries ``plan``; False if one of them was quicker."""

    def add(self, trial: Trial, details: Mapping[str, Any]) -> None:
        """Keep a finished trial for good, and the claim is done with; it need not have been claimed."""

    def release(self) -> None:
        """Give up what this worker has claimed, because trying it has failed."""
