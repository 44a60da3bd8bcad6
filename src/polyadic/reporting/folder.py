"""A folder that ``compress``, ``search`` or ``analyze`` wrote, read back as plain data: nothing of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from polyadic.errors import LayerError, PolyadicError, StorageError
from polyadic.schema import (
    VERSION,
    DegeneracyStudy,
    LayerStudy,
    Plan,
    SearchResult,
    StudyResult,
    Summary,
    TrialRecord,
    TruncationStudy,
)
from polyadic.storage import read_document, read_records

STUDIES: dict[str, type[StudyResult]] = {kind.file: kind for kind in (TruncationStudy, DegeneracyStudy, LayerStudy)}

Result = TypeVar("Result", bound=Summary | SearchResult | StudyResult, covariant=True)


@dataclass(frozen=True)
class Folder(Generic[Result]):
    """What a folder says.

    Attributes:
        path: the folder.
        result: of a compression (a ``Summary``), a search or a study.
        model: text of the dense network, None if only the user has it.
        trials: of the search, in the order of the log; none where there is no log.
        damaged: lines of the log that could not be read.
    """

    path: Path
    result: Result
    model: str | None = None
    trials: tuple[TrialRecord, ...] = ()
    damaged: int = 0

    @property
    def name(self) -> str:
        """The network, as titles call it."""
        return self.model or "A network"


def read_folder(directory: Path | str) -> Folder[Summary | SearchResult | StudyResult]:
    """Read what ``compress``, ``search`` or ``analyze`` wrote; a result goes before the search that led to it.

    Raises:
        StorageError: a file is missing, damaged or of another version.
        PolyadicError: the folder holds several studies.
    """
    directory = Path(directory)
    if (directory / Summary.file).exists():
        return read_result(directory)
    if (directory / SearchResult.file).exists():
        return read_search(directory)
    if any((directory / name).exists() for name in STUDIES):
        return read_study(directory)
    raise StorageError(_what_is_missing(directory, (Summary.file, SearchResult.file, *STUDIES)))


def read_result(directory: Path | str) -> Folder[Summary]:
    """Read what ``compress`` wrote.

    Raises:
        StorageError: a file is missing, damaged or of another version.
    """
    directory = Path(directory)
    if not (directory / Summary.file).exists():
        raise StorageError(_what_is_missing(directory, (Summary.file,)))
    document, plan_document = (read_document(directory / name, VERSION) for name in (Summary.file, Plan.file))
    try:
        plan = Plan.from_json(plan_document.get("layers"))
    except LayerError as error:
        raise StorageError(f"{directory / Plan.file} is damaged ({error}): copy it again") from error
    summary = Summary.from_json(document, plan, directory / Summary.file)
    origin = plan_document.get("origin")
    model = _text(origin.get("model")) if isinstance(origin, dict) else None
    return Folder(directory, summary, model, *_read_trials(directory / TrialRecord.file))


def read_search(directory: Path | str) -> Folder[SearchResult]:
    """Read what ``search`` wrote.

    Raises:
        StorageError: a file is missing, damaged or of another version.
    """
    directory, path = Path(directory), Path(directory) / SearchResult.file
    result = SearchResult.from_json(read_document(path, VERSION), path)
    return Folder(directory, result, _text(result.provenance.get("model")), *_read_trials(directory / TrialRecord.file))


def read_study(directory: Path | str) -> Folder[StudyResult]:
    """Read what ``analyze`` wrote.

    Raises:
        StorageError: a file is damaged or of another version.
        PolyadicError: the folder holds no study, or several.
    """
    directory = Path(directory)
    found = [name for name in STUDIES if (directory / name).exists()]
    if len(found) != 1:
        raise PolyadicError(
            f"a page shows one study; {directory} holds {', '.join(found) or 'none'}: give a folder to each"
        )
    path = directory / found[0]
    study = STUDIES[path.name].from_json(read_document(path, VERSION), path)
    return Folder(directory, study, study.model)


def _read_trials(path: Path) -> tuple[tuple[TrialRecord, ...], int]:
    """The trials of a log, and how many of its lines are none; a page is worth having without them.

    Raises:
        StorageError: the file is there and cannot be read.
    """
    records, others = read_records(path, TrialRecord.from_json)
    return tuple(records), max(others - 1, 0)  # the first line names the run


def _what_is_missing(directory: Path, wanted: tuple[str, ...]) -> str:
    """Why a folder has no page, and what to do."""
    if not directory.is_dir():
        return f"a page is made of the folder of a result, a search or a study; {directory} is none"
    if (directory / "rows.jsonl").exists():
        return f"{directory} holds rows of a study that did not end: finish it with polyadic analyze ... --resume"
    if (directory / Plan.file).exists():
        return (
            f"{directory} holds a plan that was not carried out, and no {' or '.join(wanted[:2])}: carry it out with "
            f"polyadic compress --plan {directory}"
        )
    return f"a page is made of {', '.join(wanted)}, and {directory} has none: finish the run with --resume"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
