"""A folder of a result, read back as plain data: what it says of a network, and nothing of its weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from polyadic.errors import LayerError, StorageError
from polyadic.files import storage_error
from polyadic.schema import Choice, Cost, LayerOutcome, Plan, Summary

RESULT, PLAN, TRIALS = "result.json", "plan.json", "trials.jsonl"
READS = 1
"""The version of ``result.json`` and ``plan.json`` that is understood."""


@dataclass(frozen=True)
class TrialRecord:
    """One line of ``trials.jsonl``, as far as reports want it.

    Attributes:
        trial: its number.
        plan: what was replaced.
        drop: points of score lost on the held-out images; None or NaN where the score was no number.
        joint: whether the plan was tried as it is, untuned.
        loss: divergence of the outputs from the dense network's, where it was measured.
        macs: of all layers that the plan replaces, together.
        cost: of the whole network with the plan.
        threshold: points that a single layer might lose.
        seconds: how long the trial took.
    """

    trial: int
    plan: tuple[Choice, ...]
    drop: float | None
    joint: bool = False
    loss: float | None = None
    macs: int | None = None
    cost: Cost | None = None
    threshold: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ResultFolder:
    """What a folder says.

    Attributes:
        path: the folder.
        summary: the content of ``result.json``, with the plan of ``plan.json``.
        model: text of the dense network, None if only the user has it.
        trials: of the search, in the order of the log; none where there is no log.
        damaged: lines of the log that could not be read.
    """

    path: Path
    summary: Summary
    model: str | None = None
    trials: tuple[TrialRecord, ...] = ()
    damaged: int = 0


@dataclass(frozen=True)
class _Scored:
    params: int
    macs: int
    bytes: int
    score: float | None

    @property
    def cost(self) -> Cost:
        return Cost(self.params, self.macs, self.bytes)


@dataclass(frozen=True)
class _Compressed(_Scored):
    score_before_finetuning: float | None


@dataclass(frozen=True)
class _Result:
    """The layout of ``result.json``."""

    dense: _Scored
    compressed: _Compressed
    score_name: str
    layers: tuple[LayerOutcome, ...]
    max_drop: float | None = None
    drop_interval: tuple[float | None, float | None] | None = None
    held_out: dict[str, float | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def summary(self, plan: Plan) -> Summary:
        low, high = self.drop_interval or (None, None)
        return Summary(
            dense=self.dense.cost,
            compressed=self.compressed.cost,
            dense_score=_number(self.dense.score),
            compressed_score=_number(self.compressed.score),
            score_before_finetuning=_number(self.compressed.score_before_finetuning),
            score_name=self.score_name,
            max_drop=self.max_drop,
            drop_interval=None if low is None or high is None else (low, high),
            held_out={name: _number(score) for name, score in self.held_out.items()},
            plan=plan,
            layers=self.layers,
            seconds=self.seconds,
            provenance=self.provenance,
            warnings=self.warnings,
        )


_RESULT, _TRIAL = TypeAdapter(_Result), TypeAdapter(TrialRecord)


def read_result(directory: Path | str) -> ResultFolder:
    """Read what ``compress`` wrote.

    Raises:
        StorageError: a file is missing, damaged or of another version.
    """
    directory = Path(directory)
    if not (directory / RESULT).exists():
        raise StorageError(_what_is_missing(directory))
    document = _document(directory / RESULT)
    try:
        result = _RESULT.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top"
        raise StorageError(
            f"{directory / RESULT} is damaged at {where} ({first['msg']}): copy it again, or compress again"
        ) from error
    plan_document = _document(directory / PLAN)
    try:
        plan = Plan.from_json(plan_document.get("layers"))
    except LayerError as error:
        raise StorageError(f"{directory / PLAN} is damaged ({error}): copy it again") from error
    origin = plan_document.get("origin")
    model = origin.get("model") if isinstance(origin, dict) else None
    trials, damaged = _trials(directory / TRIALS)
    return ResultFolder(
        directory, result.summary(plan), model if isinstance(model, str) else None, tuple(trials), damaged
    )


def _what_is_missing(directory: Path) -> str:
    if not directory.is_dir():
        return f"a report is made of the folder of a result; {directory} is none"
    if (directory / PLAN).exists():
        return (
            f"{directory} holds a plan that was not carried out, and no {RESULT}: carry it out with "
            f"polyadic compress --plan {directory}"
        )
    return f"a result is complete with {RESULT}, and {directory} has none: finish the run with --resume"


def _document(path: Path) -> dict[str, Any]:
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


def _trials(path: Path) -> tuple[list[TrialRecord], int]:
    """The trials of a log, and how many of its lines are none; a report is worth having without them."""
    try:
        lines = path.read_bytes().splitlines()[1:]  # the first one names the run
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise storage_error(path, error) from error
    trials = []
    for line in lines:
        try:
            trials.append(_TRIAL.validate_python(json.loads(line)))
        except ValueError:  # of JSON, of UTF-8 or of pydantic
            continue
    return trials, len(lines) - len(trials)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
