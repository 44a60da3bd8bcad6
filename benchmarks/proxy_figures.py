"""The figures of the study of proxies: how well each one ranks plans, and the best of them plan by plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyadic.reporting.chart import BarChart, Bars, PointChart, Points, Table
from polyadic.reporting.svg import svg_file
from polyadic.storage import write_together


def write_figures(
    folder: Path, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    """Write ``proxy-correlations.svg`` and ``proxy-divergence.svg`` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            folder / "proxy-correlations.svg": svg_file(correlation_chart(found, names, len(rows))),
            folder / "proxy-divergence.svg": svg_file(divergence_chart(rows)),
        }
    )


def correlation_chart(found: Mapping[str, Any], names: Mapping[str, str], plans: int) -> BarChart:
    """A bar of each coefficient for every proxy."""

    def values(kind: str) -> tuple[float, ...]:
        return tuple(found[name][kind]["value"] for name in names)

    def said(known: Mapping[str, Any]) -> str:
        low, high = known["interval"]
        return f"{known['value']:.2f} ({low:.2f} to {high:.2f})"

    cells = tuple((words, said(found[name]["spearman"]), said(found[name]["kendall"])) for name, words in names.items())
    return BarChart(
        name="proxy-correlations",
        title="How well proxies rank plans",
        caption=f"Rank correlation with the points lost after fine-tuning, over {plans} random plans of one cost.",
        table=Table(("proxy", "Spearman (95 % interval)", "Kendall (95 % interval)"), cells),
        label="rank correlation",
        categories=tuple(names.values()),
        series=(Bars("Spearman", "c0", values("spearman")), Bars("Kendall", "c1", values("kendall"))),
    )


def divergence_chart(rows: Sequence[Mapping[str, Any]]) -> PointChart:
    """Points lost before and after fine-tuning over the divergence, a point per plan."""
    x = tuple(float(row["proxies"]["divergence"]) for row in rows)
    before, after = (
        tuple(float(row[f"points_lost_{state}"]["test"]) for row in rows) for state in ("untuned", "tuned")
    )
    texts = tuple(f"plan {n}: {d:.3f} nats, {b:.2f} and {a:.2f} points" for n, d, b, a in _numbered(x, before, after))
    cells = tuple((str(n), f"{d:.3f}", f"{b:.2f}", f"{a:.2f}") for n, d, b, a in _numbered(x, before, after))
    return PointChart(
        name="proxy-divergence",
        title="Divergence before fine-tuning, and what is lost before and after it",
        caption="A point per random plan; divergence on held-out, accuracy on test images.",
        table=Table(("plan", "divergence, nats", "lost before, points", "lost after, points"), cells),
        x_label="divergence from the dense network before fine-tuning, nats",
        y_label="points of accuracy lost",
        series=(
            Points("before fine-tuning", "c0", x, before, texts),
            Points("after fine-tuning", "c1", x, after, texts, symbol=1),
        ),
    )


def _numbered(*columns: Sequence[float]) -> list[tuple[Any, ...]]:
    return [(number, *cells) for number, cells in enumerate(zip(*columns, strict=True))]
