"""Trials of a run in an Optuna study, which several workers share and dashboards read.

Each trial is a trial of Optuna: its parameters are the share of MACs that every layer keeps, its value the loss, its
attributes the trial and its details. A plan goes through Optuna's queue: it is enqueued, and `Study.optimize` takes it
out, evaluates it and beats its heart meanwhile. The plan of a worker that has died is put into the queue again.

Workers propose from what they have read, and others may have enqueued a plan since. So each trial carries how many
trials its worker had seen; where another plan came between, the trial is pruned, and its worker proposes anew. Thus
every plan is a function of all plans before it, none is tried twice, and all workers see the same end.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import RandomSampler
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial

from polyadic.errors import PolyadicError, StorageError
from polyadic.schema import Plan, Trial
from polyadic.search.space import RankCandidates
from polyadic.search.study_storage import close_storage, hide_password, open_storage, quiet_optuna, storage_errors
from polyadic.search.trials import Evaluate

_RUN, _PLAN, _SEEN, _WORKER = "run", "plan", "seen", "worker"
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


class StudyLog:
    """The trials of one run, shared by all workers that open the study with the same digest."""

    def __init__(
        self,
        url: str,
        run: str,
        candidates: Sequence[RankCandidates] = (),
        *,
        name: str = "polyadic",
        interval: int = 10,
        grace: int = 60,
    ) -> None:
        """Create the study of the run called ``run``, a digest of everything that decides its trials, or join it.

        Args:
            url: see :func:`polyadic.search.study_storage.open_storage`; so are ``interval`` and ``grace``.
            run: the digest.
            candidates: of all layers, for the parameters that dashboards show.
            name: of the study in its storage.
            interval: seconds between two heartbeats of a worker.
            grace: seconds without one after which a worker counts as dead.

        Raises:
            PolyadicError: the study belongs to another run, or the URL is none.
            StorageError: the storage cannot be used.
        """
        self.url = url
        self.candidates = tuple(candidates)
        self._storage = open_storage(url, interval, grace)
        weakref.finalize(self, close_storage, self._storage)
        with storage_errors(url), quiet_optuna():
            self._study = optuna.create_study(
                storage=self._storage, sampler=RandomSampler(), study_name=name, load_if_exists=True
            )
            self._id = self._storage.get_study_id_from_name(name)
            if _RUN not in self._study.user_attrs:
                self._study.set_user_attr(_RUN, run)
            known = self._study.user_attrs[_RUN]
        if known != run:
            raise PolyadicError(
                f"study {name!r} in {hide_password(url)} belongs to a run with another model, data or options: repeat "
                "those to resume, or choose another storage"
            )
        self._known: dict[int, Trial] = {}
        self._seen = 0

    @property
    def trials(self) -> list[Trial]:
        """Finished trials of all workers, in the order in which they were begun.

        Raises:
            StorageError: the storage cannot be used, or holds a trial that is none of ours.
        """
        for frozen in self._read(TrialState.COMPLETE):
            if frozen.number not in self._known:
                try:
                    self._known[frozen.number] = Trial.from_json(frozen.user_attrs)
                except (KeyError, TypeError, ValueError) as error:
                    raise StorageError(
                        f"trial {frozen.number} of the study at {hide_password(self.url)} is not one of a search "
                        f"({error}): keep other trials in a storage of their own"
                    ) from error
        return [trial for _, trial in sorted(self._known.items())]

    @property
    def running(self) -> list[Plan]:
        """Plans that somebody is trying or that are in the queue; plans of workers that have died go there.

        Raises:
            StorageError: the storage cannot be used.
        """
        with storage_errors(self.url), quiet_optuna():
            fail_stale_trials(self._study)
        every = self._read()
        self._seen = len(every)
        return [
            Plan.from_json(frozen.user_attrs[_PLAN])
            for frozen in every
            if frozen.state in _OPEN and _PLAN in frozen.user_attrs
        ]

    def run_trial(self, plan: Plan | None, evaluate: Evaluate) -> Trial | None:
        """Evaluate the first plan in the queue; ``plan`` is put there where it is empty. See :class:`TrialStore`.

        Raises:
            StorageError: the storage cannot be used.
        """
        attempt = _Attempt(evaluate)
        with storage_errors(self.url), quiet_optuna():
            if plan is not None and not self._read(TrialState.WAITING):
                self._study.add_trial(self._enqueued(plan))
            waiting = self._read(TrialState.WAITING)
            for frozen in waiting:  # else one that dies before its first heartbeat would never be noticed
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._id, frozen.number)
                self._storage.record_heartbeat(trial_id)
            if waiting:
                try:
                    self._study.optimize(attempt, n_trials=1, catch=(_EvaluationError,))
                except (UpdateFinishedTrialError, ValueError, AssertionError):  # Optuna has three, by the moment
                    if not attempt.is_given_up(self._study):
                        raise
        if attempt.error is not None:
            raise attempt.error
        return attempt.trial

    def _read(self, *states: TrialState) -> list[FrozenTrial]:
        with storage_errors(self.url):
            return self._study.get_trials(deepcopy=False, states=states or None)

    def _enqueued(self, plan: Plan) -> FrozenTrial:
        shares = {candidates.layer: 1.0 for candidates in self.candidates}
        for candidates in self.candidates:
            choice = plan.of(candidates.layer)
            if choice is not None and choice.format == candidates.format and choice.rank in candidates.ranks:
                shares[candidates.layer] = candidates.macs[candidates.position(choice)] / candidates.dense_macs
        box: dict[str, BaseDistribution] = dict.fromkeys(shares, FloatDistribution(0.0, 1.0))
        marks = {_PLAN: plan.to_json(), _SEEN: self._seen}
        return create_trial(state=TrialState.WAITING, params=shares, distributions=box, user_attrs=marks)


class _EvaluationError(Exception):
    """What was raised while a plan was evaluated; the cause says it."""


@dataclass
class _Attempt:
    """The objective of one trial: evaluates the plan that Optuna took out of the queue, unless another came between."""

    evaluate: Evaluate
    number: int | None = None
    trial: Trial | None = None
    error: Exception | None = None

    def __call__(self, trial: optuna.Trial) -> float:
        self.number = trial.number
        if _PLAN not in trial.user_attrs or self._is_overtaken(trial):
            raise optuna.TrialPruned
        trial.set_user_attr(_WORKER, f"{socket.gethostname()}:{os.getpid()}")
        try:
            self.trial, details = self.evaluate(Plan.from_json(trial.user_attrs[_PLAN]))
        except Exception as error:
            self.error = error
            raise _EvaluationError from error
        record: Mapping[str, Any] = {**self.trial.to_json(), **details}
        for key, value in record.items():
            trial.set_user_attr(key, value)
        return self.trial.loss

    def is_given_up(self, study: optuna.Study) -> bool:
        """Whether the others took this worker for dead meanwhile: the plan is tried again, and this trial is void."""
        return self.number is not None and study.get_trials(deepcopy=False)[self.number].state == TrialState.FAIL

    @staticmethod
    def _is_overtaken(trial: optuna.Trial) -> bool:
        """Whether a plan was enqueued since the worker looked that proposed this one; one tried again is not."""
        every = trial.study.get_trials(deepcopy=False)
        if "failed_trial" in every[trial.number].system_attrs:  # Optuna's mark of another attempt
            return False
        since = every[trial.user_attrs[_SEEN] : trial.number]
        return any(_PLAN in other.user_attrs and other.state in (*_OPEN, TrialState.COMPLETE) for other in since)
