"""Where a search writes down what it has tried: a file of one worker, or a study that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from polyadic.schema import Plan, Trial
from polyadic.search.space import RankCandidates
from polyadic.storage import RecordLog

Evaluate = Callable[[Plan], tuple[Trial, Mapping[str, Any]]]
"""From a plan to its trial, and details that are written down beside it."""


class TrialStore(Protocol):
    """Finished trials, and the plans that are being tried; :class:`TrialLog` and :class:`StudyLog` are such.

    A search goes on like this until ``plan`` is None and nothing is running::

        running = store.running  # before the trials: what ends meanwhile is in both
        plan = strategy.propose(space, store.trials, running)
        if store.run_trial(plan, evaluate) is None:
            time.sleep(1.0)  # others are at work
    """

    @property
    def trials(self) -> Sequence[Trial]:
        """Finished trials of all workers, in the order in which they were begun."""

    @property
    def running(self) -> Sequence[Plan]:
        """Plans that somebody is trying at this moment, or will be. A worker that has died is noticed here."""

    def run_trial(self, plan: Plan | None, evaluate: Evaluate) -> Trial | None:
        """Evaluate a plan, and keep its trial for good before this returns.

        The plan is ``plan``, which was proposed from what :attr:`running` and :attr:`trials` said last. It is another
        one where a worker that died has left one, also where ``plan`` is None. What ``evaluate`` raises is raised here,
        and nothing is kept.

        Returns:
            The trial. None where there is nothing to evaluate, or where another worker has begun a plan since
            :attr:`running` was read: then look and propose again.

        Raises:
            StorageError: the trial cannot be kept.
        """


class TrialLog:
    """Trials of one worker in a file, one JSON object a line; the first line says which run they belong to."""

    def __init__(self, path: Path | None, run: str, *, resume: bool = False) -> None:
        """Open the log of the run called ``run``, a digest of everything that decides its trials.

        Raises:
            PolyadicError: a log exists and ``resume`` is False, or it belongs to another run.
            StorageError: the file cannot be read or written.
        """
        self._log = RecordLog(path, "run", run, parse=Trial.from_json, holds="trials", resume=resume)
        self.trials: list[Trial] = self._log.records
        self.running: tuple[Plan, ...] = ()  # one worker at a time writes here, and it asks before it begins

    def run_trial(self, plan: Plan | None, evaluate: Evaluate) -> Trial | None:
        """Evaluate ``plan``, if there is one. See :class:`TrialStore`.

        Raises:
            StorageError: the disk refused; the log ends with the last trial that was written whole.
        """
        if plan is None:
            return None
        trial, details = evaluate(plan)
        self.trials.append(trial)
        self._log.append({"trial": len(self.trials), **trial.to_json(), **details})
        return trial


def open_trials(
    run: str,
    candidates: Sequence[RankCandidates],
    *,
    storage: str | None = None,
    path: Path | None = None,
    resume: bool = False,
) -> TrialStore:
    """The trials of the run called ``run``, a digest of everything that decides them.

    Args:
        run: the digest.
        candidates: of all layers.
        storage: URL of the study that several workers share; see :func:`polyadic.search.study_storage.open_storage`.
        path: of the log where there is no storage; None keeps trials in memory alone.
        resume: whether a log that is there may be continued; a study always may.

    Raises:
        PolyadicError: there are trials of another run, or there is a log and ``resume`` is False.
        StorageError: the file or the storage cannot be used.
    """
    if storage is None:
        return TrialLog(path, run, resume=resume)
    study = import_module("polyadic.search.study")  # loads Optuna and SQLAlchemy
    store: TrialStore = study.StudyLog(storage, run, candidates)
    return store
