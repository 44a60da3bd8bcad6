"""What a result amounts to, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from polyadic.schema import Cost, Summary

_LIMIT = re.compile(r"(params|macs|bytes|latency) <= ([\d,.]*\d)")


@dataclass(frozen=True)
class Verdict:
    """``sentence`` says it, ``tone`` whether it is good news."""

    tone: Literal["good", "doubtful", "bad", "open"]
    sentence: str


def verdicts(summary: Summary) -> list[Verdict]:
    """On the drop and on the budget, each where it was asked for; one that says so where neither was."""
    said = [
        verdict
        for verdict in (_on_drop(summary), on_budget(summary.provenance, summary.compressed))
        if verdict is not None
    ]
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


def on_budget(provenance: Mapping[str, Any], cost: Cost) -> Verdict | None:
    """Whether the limits that the run was given are kept; None where it was given none."""
    written, limits = provenance.get("budget"), limits_in(provenance)
    if not limits:
        return None
    known = {name: getattr(cost, name) for name in limits}
    over = [name for name, limit in limits.items() if known[name] is not None and known[name] > limit]
    if over:
        return Verdict("bad", f"Over budget in {', '.join(over)}: {written} was asked for.")
    if None in known.values():
        return Verdict("open", f"Not known: {written} was asked for, and the time of a pass is not on record.")
    return Verdict("good", f"Within the budget: {written}.")


def limits_in(provenance: Mapping[str, Any]) -> dict[str, float]:
    """The limits of the budget by name, latency in milliseconds; none where there was no budget."""
    written = str(provenance.get("budget") or "")
    return {name: float(limit.replace(",", "")) for name, limit in _LIMIT.findall(written)}


def points(number: float) -> str:
    """A number of points, as it was given."""
    return f"{number:g} point{'' if number == 1 else 's'}"


def _lost(drop: float) -> str:
    if drop == 0:
        return "nothing lost"
    return f"{abs(drop):.2f} points {'lost' if drop > 0 else 'gained'}"
