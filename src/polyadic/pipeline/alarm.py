"""No ruin in silence: whether what came out is still the same network, and what to do where it is not.

Answers are counted where a task knows which are right (images with labels). Otherwise they are what varies in the
outputs, compared with the dense network's through the task's own pass, on samples that chose nothing where there are
such. Where a network gives back what it was given, changed (a denoiser, a super-resolution), they are also what it
changes: a denoiser that returns its input has lost everything, however much its output looks like the dense one's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from polyadic.layers import Inputs
from polyadic.training import FinalScores, Task, outputs_lost

LOST, ALLOWED, WHERE, DATA_AWARE = "answers_lost", "alarm_at", "answers_compared_on", "data_aware"
"""Keys of the provenance."""

NO_SAMPLES = (
    "layers were decomposed from their weights alone: a few hundred samples of the inputs, without labels, would keep "
    "more. On our table a U-Net at half its MACs keeps an IoU of 0.07 without and of 0.97 with them, dense "
    "0.97 (docs/samples.md): give --data samples:DIR, npy:FILE or npz:FILE, or in Python a DataLoader"
)
"""What is said wherever layers were decomposed without samples."""


@dataclass(frozen=True)
class Verdict:
    """How much of its answers a network has lost.

    Attributes:
        lost: the share, 0 to 1 and above where its answers are worse than none; NaN where it cannot be told.
        where: on what that was seen.
    """

    lost: float
    where: str

    def provenance(self, alarm_at: float) -> dict[str, Any]:
        """As it stands in files."""
        return {LOST: self.lost, WHERE: self.where, ALLOWED: alarm_at}


def compare_answers(
    task: Task, dense: nn.Module, model: nn.Module, scores: FinalScores | tuple[float, float], example: Inputs
) -> Verdict:
    """What ``model`` has lost of the answers of ``dense``.

    Args:
        task: what both are for.
        dense: the network as it came.
        model: what was made of it.
        scores: of the dense one first and of the other one last.
        example: what both take; outputs are compared on it where the task has no samples.
    """
    values = scores.values if isinstance(scores, FinalScores) else scores
    if values[-1] >= values[0]:  # by the score that was asked for nothing is lost; loss and labels may move outputs
        return Verdict(0.0, task.judged_on or "samples of the score")
    counted = task.answers_lost(values, math.nan)
    if not math.isnan(counted):
        return Verdict(counted, task.judged_on or "held-out samples")
    lost, where = task.outputs_lost(dense, model)
    if math.isnan(lost):
        lost, where = outputs_lost(dense, model, [example]), "example input"
    return Verdict(task.answers_lost(values, lost), where)


def is_ruined(known: Mapping[str, Any]) -> bool:
    """Whether a network lost more of the dense network's answers than leaves it the same network, by its provenance."""
    lost, allowed = known.get(LOST), known.get(ALLOWED)
    return lost is not None and allowed is not None and lost > allowed


def ruin_warning(known: Mapping[str, Any], *, carried_out: bool) -> tuple[str, ...]:
    """What stands first where a network is no longer what it was; nothing where it is.

    Args:
        known: the provenance.
        carried_out: whether the network is finished; a search ends before any fine-tuning.
    """
    if not is_ruined(known):
        return ()
    lost, where = known[LOST], known.get(WHERE)
    share = "all" if lost >= 1 or math.isinf(lost) else f"{100 * lost:.0f} %"
    who = "this network has" if carried_out else "before fine-tuning a network with this plan has"
    advice = ["give a looser budget", "fine-tune it more" if carried_out else "fine-tune it (compress --plan does)"]
    if not known.get(DATA_AWARE, True):
        advice.insert(0, "give samples of its inputs (--data samples:DIR, or a DataLoader), which keep most of them")
    return (
        f"{who} lost {share} of the dense network's answers{'' if where is None else f' on the {where}'}, more than "
        f"the {100 * known[ALLOWED]:g} % at which it is no longer taken for the same network (alarm_at, --alarm-at): "
        f"{', or '.join(advice)}",
    )


def blind_warning(known: Mapping[str, Any], *, wanted: bool) -> tuple[str, ...]:
    """What is said where layers were to see data, and there was none."""
    return (NO_SAMPLES,) if wanted and not known.get(DATA_AWARE, True) else ()
