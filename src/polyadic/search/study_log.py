"""The trials of a run in an Optuna study, which several workers share and dashboards read.

Each trial is a trial of Optuna: its parameters are the share of MACs that every layer keeps, its value the harm, its
attributes the trial and its details. A plan is claimed before it is tried: a RUNNING trial says so to the others. While
a worker lives it counts up an attribute of its claim; where that stands still for ``patience`` seconds by the clock of
the worker who looks, or where the process is known to be gone, the claim is void. (Optuna's own heartbeat serves
`Study.optimize` on databases alone, and not a worker killed before its first beat.)
"""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from polyadic.errors import PolyadicError, StorageError
from polyadic.schema import Plan
from polyadic.search.claim import BEAT, Claim, Holder, failed, gone
from polyadic.search.quiet import quiet_optuna
from polyadic.search.rank_candidates import RankCandidates
from polyadic.search.rank_search import Trial
from polyadic.search.study_storage import close_storage, hide_password, open_storage, storage_errors

_RUN, _WORKER, _WHERE = "run", "worker", "where"


class StudyLog:
    """The journal of one run, shared by all workers that open it with the same digest."""

    def __init__(
        self,
        url: str,
        run: str,
        all_candidates: Sequence[RankCandidates] = (),
        *,
        name: str = "polyadic",
        interval: float = 15.0,
        patience: float = 90.0,
    ) -> None:
        """Create the study of the run called ``run``, a digest of everything that decides its trials, or join it.

        Args:
            url: see :func:`polyadic.search.study_storage.open_storage`.
            run: the digest.
            ladders: of all layers, for the parameters that dashboards show.
            name: of the study in its storage.
            interval: seconds between two signs of life.
            patience: seconds without one after which another worker's plan is free again.

        Raises:
            PolyadicError: the study belongs to another run, or the URL is none.
            StorageError: the storage cannot be used.
        """
        self.url = url
        self.all_candidates = tuple(all_candidates)
        self.interval, self.patience = interval, patience
        self._storage = open_storage(url)
        weakref.finalize(self, close_storage, self._storage)
        with storage_errors(url):
            with quiet_optuna():
                self._study = optuna.create_study(
                    storage=self._storage, study_name=name, direction="minimize", load_if_exists=True
                )
            self._id = self._storage.get_study_id_from_name(name)
            known = self._study.user_attrs.get(_RUN)
            if known is None:
                self._study.set_user_attr(_RUN, run)
        if known not in (None, run):
            raise PolyadicError(
                f"study {name!r} in {hide_password(url)} belongs to a run with another model, data or options: repeat those to "
                "resume, or choose another storage"
            )
        self._claims: dict[Plan, Claim] = {}
        self._known: dict[int, Trial] = {}
        self._heard: dict[int, tuple[int, float]] = {}  # of others' claims: the last count, and when it was new

    @property
    def trials(self) -> list[Trial]:
        """Finished trials of all workers, in the order in which they were begun.

        Raises:
            StorageError: the storage cannot be used, or holds a trial that is none of ours.
        """
        for frozen in self._in(TrialState.COMPLETE):
            if frozen.number not in self._known:
                self._known[frozen.number] = self._read(frozen)
        return [trial for _, trial in sorted(self._known.items())]

    @property
    def running(self) -> list[Plan]:
        """Plans that somebody is trying; claims of workers that have died are made void.

        Raises:
            StorageError: the storage cannot be used, or holds a trial that is none of ours.
        """
        mine = {claim.number for claim in self._claims.values()}
        alive = []
        for frozen in self._in(TrialState.RUNNING):
            if frozen.number in mine or self._lives(frozen):
                alive.append(self._plan(frozen))
            else:
                with storage_errors(self.url):
                    number = self._storage.get_trial_id_from_study_id_trial_number(self._id, frozen.number)
                    failed(self._storage, number)
        return alive

    def claim(self, plan: Plan, where: str = "", *, again: bool = False) -> bool:
        """Let the others know that this worker tries ``plan`` (in the folder ``where``); False if one was quicker.

        Of two claims of one plan the earlier one holds: each worker writes first and looks then. ``again`` claims also
        what has been done.

        Raises:
            StorageError: the storage cannot be used.
        """
        marks = {"plan": plan.to_json(), BEAT: 0, _WORKER: f"{socket.gethostname()}:{os.getpid()}", _WHERE: where}
        with storage_errors(self.url):
            trial_id = self._storage.create_new_trial(self._id, self._template(plan, TrialState.RUNNING, marks))
            number = self._storage.get_trial(trial_id).number
        done = () if again else (TrialState.COMPLETE,)
        for other in self._in(TrialState.RUNNING, *done):
            unheard_of = other.number not in self._known
            if other.number < number and unheard_of and other.user_attrs.get("plan") == marks["plan"]:
                with storage_errors(self.url):
                    failed(self._storage, trial_id)
                return False
        self._claims[plan] = Claim(self._storage, trial_id, number, self.interval)
        return True

    def holder(self, plan: Plan) -> Holder | None:
        """Who has claimed ``plan`` first of those that have not given it up; None if nobody has.

        Raises:
            StorageError: the storage cannot be used.
        """
        known = plan.to_json()
        for frozen in self._in(TrialState.RUNNING, TrialState.COMPLETE):
            said = frozen.user_attrs
            if said.get("plan") == known:
                finished = frozen.state == TrialState.COMPLETE
                return Holder(str(said.get(_WORKER)), str(said.get(_WHERE, "")), int(said.get(BEAT, 0)), finished)
        return None

    def add(self, trial: Trial, details: Mapping[str, Any]) -> None:
        """Keep a trial, in the storage before this returns.

        Raises:
            StorageError: the storage cannot be used.
        """
        record = {**trial.to_json(), **details}
        claim = self._claims.pop(trial.plan, None)
        with storage_errors(self.url):
            if claim is None or not claim.completed(record, trial.loss):
                self._storage.create_new_trial(
                    self._id, self._template(trial.plan, TrialState.COMPLETE, record, trial.loss)
                )

    def release(self) -> None:
        """Give up what this worker has claimed.

        Raises:
            StorageError: the storage cannot be used.
        """
        with storage_errors(self.url):
            while self._claims:
                self._claims.popitem()[1].given_up()

    def _in(self, *states: TrialState) -> list[FrozenTrial]:
        with storage_errors(self.url):
            return self._study.get_trials(deepcopy=False, states=states)

    def _read(self, frozen: FrozenTrial) -> Trial:
        try:
            return Trial.from_json(frozen.user_attrs)
        except (KeyError, TypeError, ValueError) as error:
            raise self._foreign(frozen, error) from error

    def _plan(self, frozen: FrozenTrial) -> Plan:
        try:
            return Plan.from_json(frozen.user_attrs["plan"])
        except (KeyError, ValueError) as error:
            raise self._foreign(frozen, error) from error

    def _foreign(self, frozen: FrozenTrial, error: Exception) -> StorageError:
        return StorageError(
            f"trial {frozen.number} of the study at {hide_password(self.url)} is not one of a search ({error}): keep other "
            "trials in a storage of their own"
        )

    def _lives(self, frozen: FrozenTrial) -> bool:
        """Whether the worker of a claim has shown life of late, as far as can be told from here."""
        if gone(str(frozen.user_attrs.get(_WORKER, ""))):
            return False
        beat, now = int(frozen.user_attrs.get(BEAT, 0)), time.monotonic()
        last, since = self._heard.get(frozen.number, (-1, now))
        if beat != last:
            last, since = beat, now
        self._heard[frozen.number] = (last, since)
        return now - since <= self.patience

    def _template(
        self, plan: Plan, state: TrialState, attributes: Mapping[str, Any], value: float | None = None
    ) -> FrozenTrial:
        shares = dict.fromkeys((candidates.layer for candidates in self.all_candidates), 1.0)
        for candidates in self.all_candidates:
            choice = plan.of(candidates.layer)
            if choice is not None and choice.format == candidates.format and choice.rank in candidates.ranks:
                shares[candidates.layer] = candidates.macs[candidates.position(choice)] / candidates.dense_macs
        distributions: dict[str, BaseDistribution] = dict.fromkeys(shares, FloatDistribution(0.0, 1.0))
        return create_trial(
            state=state, value=value, params=shares, distributions=distributions, user_attrs=dict(attributes)
        )
