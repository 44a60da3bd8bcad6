"""Where an Optuna study lies: a SQLite file, a PostgreSQL server, or a journal file."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from polyadic.errors import PolyadicError, StorageError

_JOURNAL, _SQLITE, _POSTGRESQL = "journal:///", "sqlite:///", "postgresql://"
_ATTEMPTS = 6  # at opening: workers that start together create the same tables
_LOCKED_S = 60  # that a worker waits for another one to finish writing, in SQLite


def open_storage(url: str) -> BaseStorage:
    """The storage at ``url``, made if it is not there.

    Args:
        url: ``sqlite:///FILE``, ``postgresql://USER@HOST/DATABASE``, ``journal:///FILE``, or a path, which is a SQLite
            file. An absolute FILE begins with a fourth slash.

    Raises:
        PolyadicError: not such a URL.
        StorageError: it cannot be reached, or the driver of the database is missing.
    """
    if "://" not in url:
        url = _SQLITE + url
    if not url.startswith((_JOURNAL, _SQLITE, _POSTGRESQL, "postgresql+")):
        raise PolyadicError(
            "a storage is sqlite:///FILE, postgresql://USER@HOST/DATABASE, journal:///FILE or the path of a SQLite "
            f"file; got {hide_password(url)!r}"
        )
    with storage_errors(url):
        if url.startswith((_JOURNAL, _SQLITE)):
            Path(url.split(":///", 1)[1]).absolute().parent.mkdir(parents=True, exist_ok=True)
        if url.startswith(_JOURNAL):
            return JournalStorage(JournalFileBackend(url.removeprefix(_JOURNAL)))
        return _database(url)


def close_storage(storage: BaseStorage) -> None:
    """Give its connections back, if it has any."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _database(url: str) -> RDBStorage:
    if url.startswith(_POSTGRESQL):  # which driver that means differs between releases of SQLAlchemy
        url = "postgresql+psycopg://" + url.removeprefix(_POSTGRESQL)
    waiting = {"connect_args": {"timeout": _LOCKED_S}} if url.startswith(_SQLITE) else {"pool_pre_ping": True}
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(url, engine_kwargs=dict(waiting))
        except (SQLAlchemyError, StorageInternalError) as error:
            if attempt == _ATTEMPTS - 1 or not _by_others(error):
                raise
            time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))  # apart from the others, who wait as well
    raise AssertionError("unreachable: the last attempt returns or raises")


def _by_others(error: Exception) -> bool:
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
            f"the study at {hide_password(url)} takes a driver that is not installed ({error.name}): pip install "
            "'polyadic[postgresql]'"
        ) from error
    except PolyadicError:
        raise
    except (SQLAlchemyError, StorageInternalError, OSError, ValueError) as error:  # the last: a damaged journal
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).strip().splitlines()[0]
        raise StorageError(
            f"the study at {hide_password(url)} cannot be used ({cause}): check the address, its permissions and the disk; "
            "finished trials are kept, and the same command goes on"
        ) from error


def hide_password(url: str) -> str:
    """The URL without the password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url
