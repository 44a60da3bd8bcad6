"""Studies as tables on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from polyadic.studies import METHODS, Chain, DegeneracyStudy, LayerStudy, TruncationStudy

TRUNCATION_COLUMNS = ("layers", "cut", "kept", "norm lost", "accuracy", "recalibrated", "perturbed", "test")


def print_truncation(study: TruncationStudy, out: Path) -> None:
    """The joint rows, or, without any, those of the single layers; then what was trained again."""
    screen = Console()
    joint = [row for row in study.rows if row["kind"] == "joint"]
    table = Table(*TRUNCATION_COLUMNS, title="truncated kernels, accuracies in %")
    for row in joint or study.rows:
        table.add_row(
            str(row["group"]),
            Chain.parse(row["chain"]).short,
            f"{row['kept_fraction']:.3f}",
            f"{row['norm_loss']:.3f}",
            *(_percent(row, name) for name in ("accuracy", "accuracy_recalibrated", "perturbed_accuracy")),
            _percent(row, "test_accuracy"),
        )
    screen.print(table)
    if study.retrained:
        _print_retrained(study.retrained, screen)
    _print_skipped(study.skipped, screen)
    screen.print(
        f"dense accuracy {100 * study.settings['dense_accuracy']:.2f} % on {study.settings['held_out_images']:,} "
        f"held-out images; {len(study.rows)} rows written to {out}",
        highlight=False,
    )


def _print_retrained(rows: Sequence[Mapping[str, Any]], screen: Console) -> None:
    table = Table("cut", "share", "trained", "parameters of kernels", "before", "after", "test", title="trained again")
    for row in rows:
        table.add_row(
            Chain.parse(row["chain"]).short,
            f"{row['share']:g}",
            str(row["form"]),
            f"{100 * row['parameter_ratio']:.1f} %",
            *(_percent(row, name) for name in ("accuracy_before", "accuracy_after", "test_accuracy")),
        )
    screen.print(table)


DEGENERACY_COLUMNS = (
    "layer", "method", "rank", "error", "largest : smallest intensity", "sum of squares", "sensitivity", "congruence",
    "condition",
)  # fmt: skip


def print_degeneracy(study: DegeneracyStudy, out: Path) -> None:
    """Every row, the sentence of each layer, and where the files are."""
    screen = Console()
    table = Table(*DEGENERACY_COLUMNS, title="CP decompositions of K / ||K||")
    figures = ("intensity_ratio", "sum_squared_intensity", "sensitivity", "congruence", "gram_condition")
    for row in study.rows:
        cells = ("inf" if row[name] is None else f"{row[name]:.3g}" for name in figures)
        table.add_row(row["layer"], METHODS[row["method"]], str(row["rank"]), f"{row['relative_error']:.4f}", *cells)
    screen.print(table)
    for name, verdict in study.verdicts.items():
        screen.print(f"{name}: {verdict}", highlight=False, soft_wrap=True)
    _print_skipped(study.skipped, screen)
    screen.print(f"{len(study.rows)} rows written to {out}", highlight=False)


LAYER_COLUMNS = ("layer", "format", "rank", "MACs", "error", "accuracy", "tuned")


def print_layers(study: LayerStudy, out: Path) -> None:
    """Every row, and where the files are."""
    screen = Console()
    table = Table(*LAYER_COLUMNS, title="one layer factorised, accuracies in %")
    for row in study.rows:
        table.add_row(
            str(row["layer"]),
            str(row["format"]),
            ",".join(map(str, row["rank"])),
            f"{100 * row['mac_ratio']:.0f} %",
            f"{row['relative_error']:.4f}",
            _percent(row, "accuracy"),
            _percent(row, "accuracy_tuned"),
        )
    screen.print(table)
    _print_skipped(study.skipped, screen)
    screen.print(
        f"dense accuracy {100 * study.dense_accuracy:.2f} %; {len(study.rows)} rows written to {out}", highlight=False
    )


def tell_page(page: Path) -> None:
    """Say where the page is."""
    Console().print(f"the whole story: {page}", markup=False, highlight=False, soft_wrap=True)


def _print_skipped(skipped: Mapping[str, str], screen: Console) -> None:
    for name, reason in skipped.items():
        screen.print(f"{name} was left out: {reason}", highlight=False, soft_wrap=True)


def _percent(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else f"{100 * value:.2f}"
