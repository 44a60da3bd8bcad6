"""JSON documents, read with care: what is missing, damaged or of another version is said in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyadic.errors import StorageError
from polyadic.storage.files import storage_errors


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
