"""JSON documents of a folder, read with care: what is missing, damaged or of another version is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from polyadic.errors import StorageError
from polyadic.storage import storage_error

READS = 1
"""The version of every document that is understood."""

Content = TypeVar("Content")


def read_document(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the version that is understood.

    Raises:
        StorageError: the file is missing, no JSON, or of another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise storage_error(path, error) from error
    except ValueError as error:
        raise StorageError(f"{path} is no JSON ({error}): copy it again") from error
    if not isinstance(document, dict):
        raise StorageError(f"{path} holds a JSON object; got a {type(document).__name__}: copy it again")
    version = document.get("version")
    if version != READS:
        raise StorageError(
            f"{path} has version {version}; this release reads version {READS}: use the release that wrote it"
        )
    return document


def checked(kind: TypeAdapter[Content], document: object, where: Path | str, again: str) -> Content:
    """What a document says, its parts checked; ``again`` is how it is made again.

    Raises:
        StorageError: a part is missing or is not what it should be.
    """
    try:
        return kind.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        raise StorageError(f"{where} is damaged at {place} ({first['msg']}): copy it again, or {again}") from error
