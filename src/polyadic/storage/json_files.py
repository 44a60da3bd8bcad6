"""JSON on disk: documents read with care, and logs of one object a line, written as things happen."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from polyadic.errors import PolyadicError, StorageError
from polyadic.storage.files import storage_errors

Record = TypeVar("Record")
Parse = Callable[[dict[str, Any]], Record]
"""From a JSON object to a record; raises ValueError, KeyError or TypeError where it is none."""


def read_document(path: Path, version: int | None = None) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: of the file.
        version: that its ``version`` has to be; None accepts any.

    Raises:
        StorageError: the file is missing, no JSON object, or of another version.
    """
    try:
        with storage_errors(path):
            document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(f"{path} is no JSON ({error}): copy it again") from error
    if not isinstance(document, dict):
        raise StorageError(f"{path} holds a JSON object; got a {type(document).__name__}: copy it again")
    if version is not None and document.get("version") != version:
        raise StorageError(
            f"{path} has version {document.get('version')}; this release reads version {version}: use the release that "
            "wrote it"
        )
    return document


def as_plain(value: Any) -> Any:
    """``value`` as JSON has it: tuples as lists, and None for what is infinite or no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return value


def json_bytes(document: Mapping[str, Any], indent: int = 1) -> bytes:
    """The content of a JSON file: indented, one line feed at the end, null for what is infinite or no number."""
    return (json.dumps(as_plain(document), indent=indent, allow_nan=False) + "\n").encode()


class RecordLog(Generic[Record]):
    """Records of one run in a file. The first line names the run, so a log is never continued by another one.

    Example:
        >>> log = RecordLog(None, "run", "digest", parse=dict)  # None keeps nothing on disk
        >>> log.append({"trial": 1})
    """

    def __init__(
        self,
        path: Path | None,
        owner: str,
        digest: str,
        *,
        parse: Parse[Record],
        holds: str = "records",
        resume: bool = False,
    ) -> None:
        """Open the log, or begin it.

        What a kill left half-written at the end is cut off the file.

        Args:
            path: None keeps nothing.
            owner: what the records belong to, a "run" or a "study"; the key of the first line.
            digest: of everything that decides the records.
            parse: reads one record.
            holds: what the records are called in messages.
            resume: whether records that are there may be taken over.

        Raises:
            PolyadicError: records are there and ``resume`` is False, or they belong to another run.
            StorageError: the file is damaged, or cannot be read or written.
        """
        self.path = path
        self.records: list[Record] = []
        if path is None:
            return
        with storage_errors(path):
            if path.exists() and path.stat().st_size:
                if not resume:
                    raise PolyadicError(
                        f"{path} holds {holds} of an earlier {owner}: go on with --resume or choose another folder"
                    )
                self._read(path, owner, digest, parse)
            if not path.exists() or not path.stat().st_size:
                append_record(path, {owner: digest})

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record, on disk before this returns.

        Raises:
            StorageError: the disk refused, or the log has gone; it ends with the last record that was written whole.
        """
        if self.path is not None:
            append_record(self.path, record, new=False)  # without its first line a log would be nobody's

    def _read(self, path: Path, owner: str, digest: str, parse: Parse[Record]) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(path, len(whole))
        lines = whole.splitlines()
        if not lines:
            return
        try:
            known = json.loads(lines[0])[owner]
            self.records = [parse(json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} is damaged ({error}): remove it to start the {owner} again") from error
        if known != digest:
            raise PolyadicError(
                f"{path} belongs to a {owner} with another model, data or options: repeat those to resume, "
                "or choose another folder"
            )


def append_record(path: Path, record: Mapping[str, Any], *, new: bool = True) -> None:
    """Add one JSON object as a line of its own, in one write, on disk before this returns; several processes may.

    Args:
        path: of the file.
        record: the object.
        new: make the file where there is none.

    Raises:
        StorageError: the disk refused, or there is no file and it may not be made.
    """
    with storage_errors(path):
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if new else 0), 0o666), "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_records(path: Path, parse: Parse[Record]) -> tuple[list[Record], int]:
    """The records of a file that others may be writing to, and how many of its lines are none; those are left out.

    Raises:
        StorageError: the file is there and cannot be read.
    """
    with storage_errors(path):
        lines = path.read_bytes().splitlines() if path.exists() else []
    records = []
    for line in lines:
        try:
            records.append(parse(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            continue
    return records, len(lines) - len(records)
