"""A folder of a result, read back as plain data: what it says of a network, and nothing of its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from polyadic.errors import LayerError, StorageError
from polyadic.reporting.documents import checked, read_document
from polyadic.reporting.trial_file import TRIALS, Searched, TrialRecord, read_trials
from polyadic.reporting.verdict import limits_in
from polyadic.schema import Cost, LayerOutcome, Plan, Summary

RESULT, PLAN = "result.json", "plan.json"


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

    @property
    def searched(self) -> Searched:
        """What the charts of its search are made of."""
        summary = self.summary
        return Searched(
            self.trials,
            summary.plan,
            summary.dense.macs,
            summary.compressed.macs,
            {layer.name: layer.macs_before for layer in summary.layers},
            limits_in(summary.provenance),
            "carried out",
        )


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


_RESULT = TypeAdapter(_Result)


def read_result(directory: Path | str) -> ResultFolder:
    """Read what ``compress`` wrote.

    Raises:
        StorageError: a file is missing, damaged or of another version.
    """
    directory = Path(directory)
    if not (directory / RESULT).exists():
        raise StorageError(_what_is_missing(directory))
    result = checked(_RESULT, read_document(directory / RESULT), directory / RESULT, "compress again")
    plan_document = read_document(directory / PLAN)
    try:
        plan = Plan.from_json(plan_document.get("layers"))
    except LayerError as error:
        raise StorageError(f"{directory / PLAN} is damaged ({error}): copy it again") from error
    origin = plan_document.get("origin")
    model = origin.get("model") if isinstance(origin, dict) else None
    trials, damaged = read_trials(directory / TRIALS)
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


def _number(value: float | None) -> float:
    return math.nan if value is None else value
