"""What the rows of a truncation study come to: quartiles, joint rows, rank correlations, what training gives back.

The layers studied are divided as the product divides them: the first half of them is shallow, the others are deep. A
``drop`` is what an accuracy lacks of the dense network's on the same images, in points; a recalibrated accuracy is
compared with the recalibrated dense network. Quartiles are the first, the median and the third, over the layers of a
half. Curves of a layer join the points of its shares, from nothing lost and no drop, with straight lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

Row = Mapping[str, Any]

HALVES = ("shallow", "deep")
DROPS = {
    "drop": "accuracy",
    "drop_recalibrated": "accuracy_recalibrated",
    "perturbed_drop": "perturbed_accuracy",
    "perturbed_drop_recalibrated": "perturbed_accuracy_recalibrated",
}
"""Columns of the summary and the accuracies that they are made of."""

LEVELS = (0.3, 0.5, 0.7)
"""Norm losses at which layers are compared with one another."""

TOGETHER = (0.3, 0.4, 0.5)
"""Norm losses at which the halves, each truncated as a whole, are compared."""

BEARABLE = 2.0
"""Points of accuracy; how much norm a layer can lose for them is its tolerance."""

_JOINT = ("group", "chain", "share", "kept_fraction", "parameter_ratio", "norm_loss", *DROPS.values())
_TESTED = ("test_accuracy", "test_accuracy_recalibrated")
_SETTINGS = (
    "data",
    "held_out_images",
    "calibration_images",
    "test_images",
    "dense_accuracy",
    "dense_accuracy_recalibrated",
    "dense_test_accuracy",
    "dense_test_accuracy_recalibrated",
    "chains",
    "shares",
    "draws",
    "seed",
    "execution",
)


def summary(document: Row) -> dict[str, Any]:
    """Summarise the content of ``truncation.json``."""
    settings = document["settings"]
    single = with_drops([row for row in document["rows"] if row["kind"] == "single"], settings)
    joint = [row for row in document["rows"] if row["kind"] == "joint"]
    layers = list(dict.fromkeys(row["group"] for row in single))
    chains = list(dict.fromkeys(row["chain"] for row in single))
    curves = {chain: curves_of(single, chain) for chain in chains}
    return {
        "settings": {name: settings[name] for name in _SETTINGS},
        "layers": layers,
        "rows": {"single": len(single), "joint": len(joint), "retrained": len(document["retrained"])},
        "large_losses": large_losses(single, len(layers)),
        "single": [found for chain in chains for found in quartile_rows(single, chain, len(layers))],
        "controls": {chain: controls([row for row in single if row["chain"] == chain]) for chain in chains},
        "tolerance": {chain: tolerances(curves[chain], len(layers)) for chain in chains},
        "depth_at_equal_norm_loss": {chain: depths(curves[chain], len(layers)) for chain in chains},
        "together_at_equal_norm_loss": {chain: together(joint, chain, settings) for chain in chains},
        "norm_loss_against_drop": {
            chain: {name: correlation(rows, "norm_loss", name) for name in DROPS}
            for chain in ("all", *chains)
            for rows in ([row for row in single if chain in ("all", row["chain"])],)
        },
        "joint": [{name: rounded(row[name]) for name in (*_JOINT, *_TESTED) if row[name] is not None} for row in joint],
        "retrained": [{name: rounded(value) for name, value in row.items()} for row in document["retrained"]],
    }


def with_drops(rows: Iterable[Row], settings: Row) -> list[dict[str, Any]]:
    """Rows with the columns of ``DROPS``, in points; None where there is no batch norm."""
    found = []
    for row in rows:
        drops = {}
        for name, column in DROPS.items():
            dense = settings["dense_accuracy_recalibrated" if name.endswith("recalibrated") else "dense_accuracy"]
            drops[name] = None if row[column] is None else 100.0 * (dense - row[column])
        found.append({**row, **drops})
    return found


def half_of(position: int, layers: int) -> str:
    """The half in which the product puts a layer: of an odd number, the second is the larger one."""
    return HALVES[position >= layers // 2]


def large_losses(rows: Sequence[Row], layers: int) -> dict[str, Any]:
    """Of the rows that lose at least half of the norm, those that cost at most ``BEARABLE`` points."""
    large = [row for row in rows if row["norm_loss"] >= 0.5]
    found: dict[str, Any] = {}
    for half in ("all", *HALVES):
        here = [row for row in large if half in ("all", half_of(row["position"], layers))]
        found[half] = {"rows": len(here)}
        for name in DROPS:
            drops = [row[name] for row in here if row[name] is not None]
            if drops:
                found[half][name] = sum(drop <= BEARABLE + 1e-9 for drop in drops)
    return found


def quartile_rows(rows: Sequence[Row], chain: str, layers: int) -> list[dict[str, Any]]:
    """A row for each share and half."""
    summarised = []
    for share in sorted({row["share"] for row in rows}):
        for half in HALVES:
            here = [
                row
                for row in rows
                if (row["chain"], row["share"]) == (chain, share) and half_of(row["position"], layers) == half
            ]
            if here:
                columns = ("norm_loss", "gaussian_norm_loss", *DROPS)
                quartered = {name: quartiles(row[name] for row in here) for name in columns}
                known = {name: value for name, value in quartered.items() if value is not None}
                summarised.append({"chain": chain, "share": share, "half": half, "layers": len(here), **known})
    return summarised


def controls(rows: Sequence[Row]) -> dict[str, Any]:
    """A cut against both controls, row by row; a difference of less than a point counts as none."""
    beyond = [row["drop"] - row["perturbed_drop"] for row in rows]
    renewed = [
        row["drop_recalibrated"] - row["perturbed_drop_recalibrated"]
        for row in rows
        if row["drop_recalibrated"] is not None
    ]
    random = [row for row in rows if row["gaussian_norm_loss"] is not None]
    return {
        "rows": len(rows),
        "drop_beyond_random_error": quartiles(beyond),
        "drop_beyond_random_error_recalibrated": quartiles(renewed),
        "rows_worse_than_random_error": sum(value >= 1.0 for value in beyond),
        "rows_better_than_random_error": sum(value <= -1.0 for value in beyond),
        "norm_loss_of_random_kernel_beyond": quartiles(row["gaussian_norm_loss"] - row["norm_loss"] for row in random),
        "rows_losing_less_than_random_kernel": sum(row["norm_loss"] < row["gaussian_norm_loss"] for row in random),
        "effective_rank_to_that_of_random_kernel": quartiles(
            row["effective_rank"] / row["gaussian_effective_rank"] for row in random
        ),
    }


Curve = Mapping[str, Sequence[float | None]]


def curves_of(rows: Sequence[Row], chain: str) -> dict[int, Curve]:
    """Norm loss and drops of each layer along a chain, by its position and by rising norm loss, from (0, 0)."""
    found: dict[int, Curve] = {}
    for position in sorted({row["position"] for row in rows}):
        here = sorted(
            (row for row in rows if (row["chain"], row["position"]) == (chain, position)),
            key=lambda row: float(row["norm_loss"]),
        )
        if here:
            found[position] = {name: [0.0, *(row[name] for row in here)] for name in ("norm_loss", *DROPS)}
    return found


def tolerances(curves: Mapping[int, Curve], layers: int) -> dict[str, Any]:
    """Norm that each layer can lose before ``BEARABLE`` points are gone; if they never are, the most that was tried."""
    found: dict[str, Any] = {}
    for name in DROPS:
        known = {
            position: tolerance(curve["norm_loss"], curve[name])
            for position, curve in curves.items()
            if None not in curve[name]
        }
        if known:
            values = {
                half: [value for at, (value, _) in known.items() if half_of(at, layers) == half] for half in HALVES
            }
            found[name] = {
                **{half: quartiles(values[half]) for half in HALVES},
                "layers": len(known),
                "never_reached": sum(not reached for _, reached in known.values()),
                "with_depth": _spearman(list(known), [value for value, _ in known.values()]),
                "by_layer": {str(at): round(value, 3) for at, (value, _) in known.items()},
            }
    return found


def tolerance(lost: Sequence[float | None], drops: Sequence[float | None]) -> tuple[float, bool]:
    """Where the curve first rises to ``BEARABLE``, and whether it does."""
    x, y = np.asarray(lost, dtype=float), np.asarray(drops, dtype=float)
    above = np.flatnonzero(y >= BEARABLE)
    if not len(above):
        return float(x[-1]), False
    at = int(above[0])  # at least 1, since curves begin at no drop
    part = (BEARABLE - y[at - 1]) / (y[at] - y[at - 1])
    return float(x[at - 1] + part * (x[at] - x[at - 1])), True


def depths(curves: Mapping[int, Curve], layers: int) -> list[dict[str, Any]]:
    """Drops of the layers whose curves reach each of ``LEVELS``, and their rank correlation with depth."""
    found = []
    for level in LEVELS:
        reached = {at: curve for at, curve in curves.items() if (curve["norm_loss"][-1] or 0.0) >= level}
        row: dict[str, Any] = {"norm_loss": level, "layers": len(reached)}
        for name in DROPS:
            values = {
                at: float(np.interp(level, np.asarray(curve["norm_loss"], float), np.asarray(curve[name], float)))
                for at, curve in reached.items()
                if None not in curve[name]
            }
            halves = {
                half: quartiles(value for at, value in values.items() if half_of(at, layers) == half) for half in HALVES
            }
            row[name] = {**halves, "with_depth": _spearman(list(values), list(values.values()))} if values else None
        found.append(row)
    return found


def together(rows: Sequence[Row], chain: str, settings: Row) -> list[dict[str, Any]]:
    """Accuracies of the layers of each half, truncated together, at each of ``TOGETHER``; None beyond the rows."""
    found = []
    for level in TOGETHER:
        row: dict[str, Any] = {"norm_loss": level}
        for column in ("accuracy", "perturbed_accuracy"):
            row[column] = {}
            for half in HALVES:
                here = [row for row in rows if (row["group"], row["chain"]) == (half, chain)]
                curve = [(0.0, settings["dense_accuracy"]), *sorted((r["norm_loss"], r[column]) for r in here)]
                x, y = [a for a, _ in curve], [b for _, b in curve]
                row[column][half] = round(float(np.interp(level, x, y)), 4) if level <= x[-1] else None
        found.append(row)
    return found


def correlation(rows: Sequence[Row], x: str, y: str) -> float | None:
    """Spearman's coefficient of two columns over all rows that have both."""
    pairs = [(row[x], row[y]) for row in rows if row[x] is not None and row[y] is not None]
    return _spearman([a for a, _ in pairs], [b for _, b in pairs])


def _spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """None where either does not vary, or of fewer than three."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    value = float(spearmanr(x, y).statistic)
    return None if math.isnan(value) else round(value, 3)


def quartiles(values: Iterable[float | None]) -> list[float] | None:
    """First, second and third, to three digits after the point; None of no values."""
    known = [value for value in values if value is not None]
    return [round(float(value), 3) for value in np.quantile(known, (0.25, 0.5, 0.75))] if known else None


def rounded(value: Any) -> Any:
    """Numbers to four digits after the point, also in lists."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
