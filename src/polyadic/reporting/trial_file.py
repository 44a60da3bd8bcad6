"""The log of a search, read back as far as pages want it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from polyadic.schema import Choice, Cost, Plan
from polyadic.storage import storage_error

TRIALS = "trials.jsonl"


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
class Searched:
    """What the charts of a search are made of, whether its plan was carried out since or not.

    Attributes:
        trials: in the order of the log; none where there is no log.
        plan: what the search ended with.
        dense_macs: of the dense network.
        macs: of the network with the plan.
        macs_before: of each dense layer.
        limits: of the budget, by name.
        fate: what became of the plan, to be put after "the plan that was".
    """

    trials: tuple[TrialRecord, ...]
    plan: Plan
    dense_macs: int
    macs: int
    macs_before: Mapping[str, int]
    limits: Mapping[str, float]
    fate: str


_TRIAL = TypeAdapter(TrialRecord)


def read_trials(path: Path) -> tuple[list[TrialRecord], int]:
    """The trials of a log, and how many of its lines are none; a report is worth having without them.

    Raises:
        StorageError: the file is there and cannot be read.
    """
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
