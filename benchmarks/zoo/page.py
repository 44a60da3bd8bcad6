"""The results as a page of the documentation."""

from __future__ import annotations

import re
from collections import Counter
from textwrap import fill
from typing import Any

# Reasons in few words for the table; whatever is not here stands there in full.
SHORT = {
    "no channel mixing": "depthwise",
    "one set of factors per group": "grouped",
    "transposed": "transposed",
    "parametrisation": "computed weight",
    "is a subclass": "subclass of a torch layer",
    "neither a convolution nor": "another kind of layer",
    "did not run": "does not run in evaluation",
    "shares its weight": "shared weight",
    "used outside the layer's own forward pass": "weight read from outside",
    "too large to be decomposed": "too large here",
    "no rank has so few": "too small to halve",
    "more with it than call it": "not only called",
    "under another reference": "held twice",
    "carries hooks": "hooks",
    "model itself is this layer": "the model itself",
}


def page(results: dict[str, Any]) -> str:
    """``docs/zoo.md`` from the content of ``results/zoo.json``."""
    rows = results["rows"]
    groups = list(dict.fromkeys(row["group"] for row in rows.values()))
    parts = [_introduction(results)]
    for group in groups:
        parts.append(f"## {group.capitalize()}\n\n{_table({k: r for k, r in rows.items() if r['group'] == group})}")
    return "\n\n".join([*parts, _reasons(rows)]) + "\n"


def short(reason: str) -> str:
    """A reason in few words."""
    return next((label for part, label in SHORT.items() if part in reason), reason)


def _introduction(results: dict[str, Any]) -> str:
    rows = [row for row in results["rows"].values() if "error" not in row]
    ratios = ", ".join(f"{ratio:g}" for ratio in sorted({row["reduced"]["ratio"] for row in rows}))
    found, served = sum(row["layers"] for row in rows), sum(row["full_rank"]["layers"] for row in rows)
    worst = max((row["full_rank"]["difference"] for row in rows), default=0.0)
    packages = ", ".join(f"{name} {version}" for name, version in results["packages"].items())
    what = fill(
        f"{len(rows)} networks as their libraries build them ({packages}, and some of our own), with random weights, "
        "also where a library begins at a constant, since a branch would not count otherwise. Detectors are backbone "
        "and heads, without operators on boxes. Accuracy has no meaning here; [choosing.md](choosing.md) has that of "
        "trained networks.",
        120,
        break_on_hyphens=False,
    )
    return f"""# The zoo

Written by `make zoo`; do not edit.

{what}

- *layers*: all that `find_layers` lists, {found} altogether.
- *factorised*: those that have {ratios} times fewer parameters in a format: Tucker-2 for windows, the SVD for matrices.
- *left dense*: the others, and why. [In full](#reasons) below.
- *params*, *MACs*: of the whole network for one input, dense and factorised. One multiply-accumulate counts 1.
- *exact*: the largest difference between the outputs of the dense network and of the same network with all layers that
  a format serves ({served} altogether) at full rank and in float64, relative to the largest output: at most
  {worst:.0e}."""


def _table(rows: dict[str, Any]) -> str:
    lines = [
        "| network | input | layers | factorised | left dense | params (M) | MACs (M) | exact |",
        "|---|---|---:|---:|---|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(_line(name, row) for name, row in rows.items())])


def _line(name: str, row: dict[str, Any]) -> str:
    if "error" in row:
        return f"| {name} | | | | failed: {row['error'].splitlines()[0]} | | | |"
    reduced, full = row["reduced"], row["full_rank"]
    left = Counter[str]()
    for reason, layers in reduced["skipped"].items():
        left[short(reason)] += layers["count"]
    cells = [
        name,
        " x ".join(str(size) for size in row["input"][1:]),
        row["layers"],
        reduced["layers"],
        ", ".join(f"{count} {why}" for why, count in left.most_common()) or "-",
        " → ".join(_millions(number) for number in reduced["params"]),
        " → ".join(_millions(number) for number in reduced["macs"]),
        f"{full['difference']:.0e}",
    ]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _millions(number: int) -> str:
    millions = number / 1e6
    return f"{millions:.3g}" if millions < 100 else f"{millions:.0f}"


def _reasons(rows: dict[str, Any]) -> str:
    seen: dict[str, str] = {}
    for row in rows.values():
        for reason in row.get("reduced", {}).get("skipped", {}):
            seen.setdefault(short(reason), re.sub(r"\s+", " ", reason))
    lines = [f"| {label} | {reason} |" for label, reason in sorted(seen.items())]
    return "\n".join(["## Reasons", "", "| in short | for example, in full |", "|---|---|", *lines])
