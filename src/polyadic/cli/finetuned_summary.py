"""What is told of a saved network that was trained further: what was known before, with the scores of now."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any

from torch import nn

from polyadic.engines import environment
from polyadic.pipeline import warnings_of
from polyadic.pipeline.alarm import Verdict, compare_answers
from polyadic.schema import Summary
from polyadic.training import FinetuneReport, Task

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training.

    Attributes:
        network: the compressed network, trained.
        untuned: as it came.
        dense: the teacher; None where labels alone taught.
        task: what it was trained and is scored on.
        report: of the fine-tuning.
        accelerator: of the processes that shared it; None where there was one.
    """

    network: nn.Module
    untuned: nn.Module
    dense: nn.Module | None
    task: Task
    report: FinetuneReport
    accelerator: Accelerator | None = None


def past_of(folder: str, before: Summary) -> dict[str, Any]:
    """What the folder says of the training so far, for ``result.json``."""
    known = before.provenance
    return {
        "folder": folder,
        "score": before.compressed_score,
        "command": known.get("command"),
        "epochs": len(known.get("finetuning", ())),
        **({"finetuned_from": known["finetuned_from"]} if "finetuned_from" in known else {}),
    }


def summary_of(before: Summary, trained: Trained, known: dict[str, Any], alarm_at: float) -> Summary:
    """What was known of the network, with the scores of now.

    The dense network's are taken anew where it is there, else they are those of the folder, if its images are the same.
    """
    task, began = trained.task, time.monotonic()
    # "scored" is of a loop of the user's own, "pixels" of other samples
    past = {key: value for key, value in before.provenance.items() if key not in ("scored", "pixels")}
    provenance = {**past, **environment(), **task.provenance()}
    same = all(before.provenance.get(key) == provenance.get(key) for key in ("data", "data_digests", "samples_digest"))
    dense = [] if trained.dense is None else [trained.dense]
    scores = task.final_scores((*dense, trained.untuned, trained.network))
    held_out = task.score(trained.dense) if trained.dense is not None else before.held_out.get("dense", nan)
    dense_score = scores.values[0] if dense else before.dense_score if same else nan
    words = task.words
    summary = replace(
        before,
        dense_score=dense_score,
        score_name=words.name,
        score_is_fraction=words.fraction,
        score_unit=words.unit,
        judged_on=words.judged_on,
        max_drop=before.max_drop if (words.name, words.drop_unit) == _unit_of(before) else None,
        score_before_finetuning=scores.values[-2],
        compressed_score=scores.values[-1],
        drop_interval=scores.drop_interval if dense else None,
        held_out={
            "dense": held_out if dense or same else nan,
            "before_finetuning": trained.report.start.value,
            "compressed": trained.report.best.value,
        },
        seconds={"finetune": round(trained.report.seconds, 3), "test": round(time.monotonic() - began, 3)},
        provenance={
            **provenance,
            "finetuning_stop": trained.report.stop.value,
            "finetuning": [vars(record) for record in trained.report.history],
            "finetuning_processes": 1 if trained.accelerator is None else trained.accelerator.num_processes,
            "taught_by": "the dense network" if dense else "labels alone",
            **known,
            **_verdict(trained, (dense_score, scores.values[-1])).provenance(alarm_at),
        },
    )
    return replace(summary, warnings=warnings_of(summary))


def _unit_of(before: Summary) -> tuple[str, str]:
    """In which its drops are."""
    return before.words.name, before.words.drop_unit


def _verdict(trained: Trained, scores: tuple[float, float]) -> Verdict:
    """What is lost of the dense network's answers; of images with labels by the scores, else by the outputs."""
    task, dense = trained.task, trained.dense
    if dense is None:
        return Verdict(task.answers_lost(scores, nan), task.judged_on or "samples")
    example = task.example_input()
    return compare_answers(task, dense, trained.network, scores, () if example is None else example)
