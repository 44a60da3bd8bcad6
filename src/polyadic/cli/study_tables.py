"""Studies as tables on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polyadic.cli.screen import print_table, say
from polyadic.studies import METHODS, Chain, DegeneracyStudy, LayerStudy, TruncationStudy

TRUNCATION_COLUMNS = ("layers", "cut", "kept", "norm lost", "accuracy", "recalibrated", "perturbed", "test")
RETRAINED_COLUMNS = ("cut", "share", "trained", "parameters of kernels", "before", "after", "test")
DEGENERACY_COLUMNS = (
    *("layer", "method", "rank", "error", "largest : smallest intensity", "sum of squares"),
    *("sensitivity", "congruence", "condition"),
)
LAYER_COLUMNS = ("layer", "format", "rank", "MACs", "error", "accuracy", "tuned")


def print_truncation(study: TruncationStudy, out: Path) -> None:
    """The joint rows, or, without any, those of the single layers; then what was trained again."""
    accuracies = ("accuracy", "accuracy_recalibrated", "perturbed_accuracy", "test_accuracy")
    rows = [
        (
            row.group,
            Chain.parse(row.chain).short,
            f"{row.kept_fraction:.3f}",
            f"{row.norm_loss:.3f}",
            *_percents(row, *accuracies),
        )
        for row in [row for row in study.rows if row.kind == "joint"] or study.rows
    ]
    print_table("truncated kernels, accuracies in %", TRUNCATION_COLUMNS, rows)
    if study.retrained:
        rows = [
            (
                Chain.parse(row.chain).short,
                f"{row.share:g}",
                row.form,
                f"{100 * row.parameter_ratio:.1f} %",
                *_percents(row, "accuracy_before", "accuracy_after", "test_accuracy"),
            )
            for row in study.retrained
        ]
        print_table("trained again", RETRAINED_COLUMNS, rows)
    dense, images = 100 * study.settings["dense_accuracy"], study.settings["held_out_images"]
    _say_end(study.skipped, len(study.rows), out, f"dense accuracy {dense:.2f} % on {images:,} held-out images; ")


def print_degeneracy(study: DegeneracyStudy, out: Path) -> None:
    """Every row, the sentence of each layer, and where the files are."""
    figures = ("intensity_ratio", "sum_squared_intensity", "sensitivity", "congruence", "gram_condition")
    rows = [
        (
            row.layer,
            METHODS[row.method],
            str(row.rank),
            f"{row.relative_error:.4f}",
            *("inf" if (value := getattr(row, name)) is None else f"{value:.3g}" for name in figures),
        )
        for row in study.rows
    ]
    print_table("CP decompositions of K / ||K||", DEGENERACY_COLUMNS, rows)
    say(*(f"{name}: {verdict}" for name, verdict in study.verdicts.items()))
    _say_end(study.skipped, len(study.rows), out)


def print_layers(study: LayerStudy, out: Path) -> None:
    """Every row, and where the files are."""
    rows = [
        (
            row.layer,
            row.format,
            ",".join(map(str, row.rank)),
            f"{100 * row.mac_ratio:.0f} %",
            f"{row.relative_error:.4f}",
            *_percents(row, "accuracy", "accuracy_tuned"),
        )
        for row in study.rows
    ]
    print_table("one layer factorised, accuracies in %", LAYER_COLUMNS, rows)
    _say_end(study.skipped, len(study.rows), out, f"dense accuracy {100 * study.dense_accuracy:.2f} %; ")


def _say_end(skipped: Mapping[str, str], rows: int, out: Path, dense: str = "") -> None:
    say(*(f"{name} was left out: {reason}" for name, reason in skipped.items()), f"{dense}{rows} rows written to {out}")


def _percents(row: object, *names: str) -> tuple[str, ...]:
    return tuple("" if (value := getattr(row, name)) is None else f"{100 * value:.2f}" for name in names)
