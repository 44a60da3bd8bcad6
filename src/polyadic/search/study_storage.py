"""Where an Optuna study lies: a SQLite file, a PostgreSQL server, or a journal file. All of them tell who has died."""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat  # what Study.optimize asks for; Optuna has no public name for it
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from polyadic.errors import PolyadicError, StorageError, install_hint

_JOURNAL, _SQLITE, _POSTGRESQL = "journal:///", "sqlite:///", "postgresql://"
_ATTEMPTS = 6  # at opening: workers that start together create the same tables
_LOCKED_S = 60  # that a worker waits for another one to finish writing, in SQLite
# What Optuna raises of a database or a journal whose entries are none of its own.
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, RecursionError)
_BEAT = "heartbeat"  # attribute of a trial in a journal: seconds since 1970


class JournalWithHeartbeat(JournalStorage, BaseHeartbeat):
    """Optuna's journal with the heartbeat that its databases have, kept as an attribute of each running trial.

    The clocks of machines that share a journal have to agree within the grace period.
    """

    def __init__(self, path: str, interval: int, grace: int) -> None:
        """Open the journal at ``path``, or begin it; ``interval`` and ``grace`` are as in :func:`open_storage`."""
        super().__init__(JournalFileBackend(path))
        self._interval, self._grace = interval, grace
        self._retry = RetryHeartbeatStaleTrialCallback()

    def record_heartbeat(self, trial_id: int) -> None:
        """Note that the worker of a trial lives, unless the others have given it up meanwhile."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.set_trial_system_attr(trial_id, _BEAT, time.time())

    def get_heartbeat_interval(self) -> int | None:
        """Seconds between two heartbeats."""
        return self._interval

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Study, FrozenTrial], None] | None:
        """Puts the plan of a worker that has died into the queue again."""
        return self._retry

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        latest = time.time() - self._grace
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        stale = [trial.number for trial in running if trial.system_attrs.get(_BEAT, latest) < latest]
        return [self.get_trial_id_from_study_id_trial_number(study_id, number) for number in stale]


def open_storage(url: str, interval: int = 10, grace: int = 60) -> RDBStorage | JournalWithHeartbeat:
    """The storage at ``url``, made if it is not there. Its folder has to be.

    Args:
        url: ``sqlite:///FILE``, ``postgresql://USER@HOST/DATABASE``, ``journal:///FILE``, or a path, which is a SQLite
            file. An absolute FILE begins with a fourth slash.
        interval: seconds between two heartbeats of a worker.
        grace: seconds without one after which the plan that a worker was trying is tried again.

    Raises:
        PolyadicError: not such a URL.
        StorageError: it cannot be reached, its folder does not exist, or the driver of the database is missing.
    """
    if "://" not in url:
        url = _SQLITE + url
    if not url.startswith((_JOURNAL, _SQLITE, _POSTGRESQL, "postgresql+")):
        raise PolyadicError(
            "a storage is sqlite:///FILE, postgresql://USER@HOST/DATABASE, journal:///FILE or the path of a SQLite "
            f"file; got {hide_password(url)!r}"
        )
    if url.startswith((_JOURNAL, _SQLITE)):
        folder = Path(url.split(":///", 1)[1]).absolute().parent
        if not folder.is_dir():
            raise StorageError(
                f"the file of a study is made in a folder that exists; there is no {folder}: make it, or correct the "
                f"address {url}"
            )
    with storage_errors(url), quiet_optuna():
        if url.startswith(_JOURNAL):
            return JournalWithHeartbeat(url.removeprefix(_JOURNAL), interval, grace)
        return _open_database(url, interval, grace)


def close_storage(storage: BaseStorage) -> None:
    """Give its connections back, if it has any."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _open_database(url: str, interval: int, grace: int) -> RDBStorage:
    if url.startswith(_POSTGRESQL):  # which driver that means differs between releases of SQLAlchemy
        url = "postgresql+psycopg://" + url.removeprefix(_POSTGRESQL)
    is_sqlite = url.startswith(_SQLITE)
    waiting = {"connect_args": {"timeout": _LOCKED_S}} if is_sqlite else {"pool_pre_ping": True}
    for attempt in range(_ATTEMPTS):
        try:
            storage = RDBStorage(
                url,
                engine_kwargs=dict(waiting),
                heartbeat_interval=interval,
                grace_period=grace,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
            if is_sqlite:
                _lock_whole_file(storage.engine)
            return storage
        except (SQLAlchemyError, StorageInternalError) as error:
            if attempt == _ATTEMPTS - 1 or not _is_race(error):
                raise
            time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))  # apart from the others, who wait as well
    raise AssertionError("unreachable: the last attempt returns or raises")


def _lock_whole_file(engine: Engine) -> None:
    """Let each transaction take the whole file: SQLite has no locks of rows, and two workers could take one plan."""
    engine.dispose()  # connections from before
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _is_race(error: Exception) -> bool:
    """Whether an error at opening comes of another worker that makes the same tables at this moment."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, (IntegrityError, ProgrammingError)) or any(
        words in str(cause) for words in ("already exists", "locked")
    )


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Errors of databases and drivers in one sentence.

    Raises:
        StorageError: in the place of what was raised.
    """
    try:
        yield
    except ImportError as error:
        raise StorageError(
            f"the study at {hide_password(url)} takes a driver that is not installed ({error.name}): "
            f"{install_hint('postgresql')}"
        ) from error
    except PolyadicError:
        raise
    except (SQLAlchemyError, StorageInternalError, OSError, *_DAMAGED) as error:
        words = str(getattr(error, "orig", None) or error.__cause__ or error).strip().splitlines() or [""]
        cause = f"damaged: {type(error).__name__} {words[0]}" if isinstance(error, _DAMAGED) else words[0]
        raise StorageError(
            f"the study at {hide_password(url)} cannot be used ({cause}): check the address, its permissions and the "
            "disk; finished trials are kept, and the same command goes on"
        ) from error


def hide_password(url: str) -> str:
    """The URL without the password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Within the block Optuna logs errors only, and does not warn that its heartbeat is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
