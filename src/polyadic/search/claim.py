"""The claim of a worker on a plan: a running trial of a study, and the thread that shows that the worker lives."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

BEAT = "beat"
"""Attribute of a claim: how many signs of life its worker has given."""


@dataclass(frozen=True)
class Holder:
    """Who has claimed a plan.

    Attributes:
        worker: "host:pid".
        where: the folder that it works in, if it said so.
        beat: how many signs of life it has given.
        finished: whether it is done.
    """

    worker: str
    where: str
    beat: int
    finished: bool

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.worker.rpartition(":")[0] == socket.gethostname()


class Claim:
    """A RUNNING trial of this worker, and the thread that counts up its sign of life."""

    def __init__(self, storage: BaseStorage, trial_id: int, number: int, interval: float) -> None:
        """Begin to count, once in ``interval`` seconds."""
        self.number = number
        self._storage, self._id = storage, trial_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(interval,), name=f"claim-{number}", daemon=True)
        self._thread.start()

    def completed(self, record: Mapping[str, Any], loss: float) -> bool:
        """Turn the claim into a finished trial; False if others have given it up for lost."""
        self._stop()
        try:
            for key, value in record.items():
                self._storage.set_trial_user_attr(self._id, key, value)
            return self._storage.set_trial_state_values(self._id, TrialState.COMPLETE, [loss])
        except UpdateFinishedTrialError:
            return False

    def given_up(self) -> None:
        """Make it void."""
        self._stop()
        failed(self._storage, self._id)

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self, interval: float) -> None:
        for count in itertools.count(1):
            if self._over.wait(interval):
                return
            try:
                self._storage.set_trial_user_attr(self._id, BEAT, count)
            except UpdateFinishedTrialError:
                return
            except (StorageInternalError, SQLAlchemyError, OSError):
                continue  # a beat that the storage missed is made up for by the next one


def failed(storage: BaseStorage, trial_id: int) -> None:
    """Make a claim void, unless it has ended."""
    try:
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return  # another worker has noticed as well, or the trial has ended after all


def gone(worker: str) -> bool:
    """Whether a process ("host:pid") ran on this machine and does so no more."""
    host, _, pid = worker.rpartition(":")
    if os.name != "posix" or host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)  # signal 0 asks whether there is such a process, and does nothing to it
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
