"""What a search found as a folder: the plan to carry out, and all that pages say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyadic.export.checkpoint import PLAN, Origin, plan_to_do
from polyadic.pipeline import SearchResult
from polyadic.storage import write_together

SEARCH = "search.json"


def save_search(
    found: SearchResult, directory: Path | str, origin: Origin, known: Mapping[str, Any] | None = None
) -> None:
    """Write ``plan.json``, to be carried out, and ``search.json`` beside the log of the trials: both or none.

    Args:
        found: by a search.
        directory: where the log is.
        origin: where the dense network comes from.
        known: more to be said of it, such as the command.

    Raises:
        StorageError: the disk refused; whatever stood in ``directory`` before is untouched.
    """
    directory = Path(directory)
    document = search_document(found, known)
    write_together(
        {
            directory / PLAN: plan_to_do(found.plan, origin),
            directory / SEARCH: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
        }
    )


def search_document(found: SearchResult, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of ``search.json``: drops are points, scores fractions; null for what is not finite."""
    document = found.to_json()
    document["provenance"] = {**(known or {}), **document["provenance"]}
    return document
