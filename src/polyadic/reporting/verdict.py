"""What a result amounts to, in words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from polyadic.schema import Summary

_LIMIT = re.compile(r"(params|macs|bytes) <= ([\d,]+)")


@dataclass(frozen=True)
class Verdict:
    """``sentence`` says it, ``tone`` whether it is good news."""

    tone: Literal["good", "doubtful", "bad", "open"]
    sentence: str


def verdicts(summary: Summary) -> list[Verdict]:
    """On the drop and on the budget, each where it was asked for; one that says so where neither was."""
    said = [verdict for verdict in (_on_drop(summary), _on_budget(summary)) if verdict is not None]
    return said or [Verdict("open", "No drop and no budget was given, so there is nothing to hold the result to.")]


def _on_drop(summary: Summary) -> Verdict | None:
    if summary.max_drop is None:
        return None
    allowed, lost = points(summary.max_drop), _lost(summary.drop)
    if not math.isfinite(summary.drop):
        return Verdict("bad", f"Broken: the score is not a number. {allowed} might be lost.")
    low, high = summary.drop_interval or (summary.drop, summary.drop)
    if summary.drop > summary.max_drop:
        doubt = (
            "" if low > summary.max_drop else " On other images it might still be within: the interval reaches there."
        )
        return Verdict("bad", f"Over the limit: {lost} on the test images, more than the {allowed} allowed.{doubt}")
    if summary.drop_interval is None:
        return Verdict("good", f"Kept: {lost}, {allowed} allowed. How certain that is was not measured.")
    if high > summary.max_drop:
        return Verdict(
            "doubtful",
            f"Kept as measured: {lost} on the test images, {allowed} allowed. There are too few of them to exclude a "
            f"larger loss than that: the 95 % interval goes up to {high:.2f} points.",
        )
    return Verdict(
        "good", f"Kept: {lost} on the test images, {allowed} allowed, and the whole 95 % interval is within."
    )


def _on_budget(summary: Summary) -> Verdict | None:
    """Whether the limits that the run was given are kept."""
    written, limits = summary.provenance.get("budget"), limits_of(summary)
    if not limits:
        return None
    over = [name for name, limit in limits.items() if getattr(summary.compressed, name) > limit]
    if over:
        return Verdict("bad", f"Over budget in {', '.join(over)}: {written} was asked for.")
    return Verdict("good", f"Within the budget: {written}.")


def limits_of(summary: Summary) -> dict[str, int]:
    """The limits of the budget by name, as the provenance has them; none where there was no budget."""
    written = str(summary.provenance.get("budget") or "")
    return {name: int(limit.replace(",", "")) for name, limit in _LIMIT.findall(written)}


def points(number: float) -> str:
    """A number of points, as it was given."""
    return f"{number:g} point{'' if number == 1 else 's'}"


def _lost(drop: float) -> str:
    if drop == 0:
        return "nothing lost"
    return f"{abs(drop):.2f} points {'lost' if drop > 0 else 'gained'}"
