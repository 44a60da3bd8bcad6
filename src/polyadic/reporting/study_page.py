"""The page of a study of a trained network: its charts, what was found, what was left out, where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polyadic.reporting.chart import Chart, Table, distinct, number_text, percent
from polyadic.reporting.degeneracy_charts import degeneracy_charts
from polyadic.reporting.folder import Folder
from polyadic.reporting.headline import Card
from polyadic.reporting.layer_study_charts import layer_study_charts
from polyadic.reporting.page import provenance_rows, render
from polyadic.reporting.truncation_charts import truncation_charts
from polyadic.schema import DegeneracyStudy, LayerStudy, StudyResult, TruncationStudy


@dataclass(frozen=True)
class Told:
    """What a page says in words.

    Attributes:
        heading: what was studied.
        about: what was done, in a sentence or two.
        cards: the first figures.
        findings: a row for each layer, where the study has a sentence for it.
        conventions: what a reader must know to read the plots.
    """

    heading: str
    about: str
    cards: tuple[Card, ...]
    findings: Table | None
    conventions: tuple[str, ...]


def study_html(folder: Folder[StudyResult]) -> str:
    """The page."""
    study = folder.result
    told = describe(study)
    return render(
        "study.html",
        title=f"{folder.name}: {told.heading}",
        told=told,
        study=study,
        charts=study_charts(study),
        settings=provenance_rows(study.settings) if isinstance(study, TruncationStudy) else (),
        provenance=provenance_rows(study.provenance),
    )


def study_piece(study: StudyResult) -> str:
    """What a notebook shows of a study: the first figures and the first plot."""
    return render("study_piece.html", told=describe(study), charts=study_charts(study)[:1])


def study_charts(study: StudyResult) -> list[Chart]:
    """Every chart that there is something to show in, in the order of the page."""
    charts, _ = _PAGES[type(study)]
    return charts(study)


def describe(study: StudyResult) -> Told:
    """What is said of a study."""
    _, words = _PAGES[type(study)]
    return words(study)


def _truncation(study: TruncationStudy) -> Told:
    layers = distinct(row.group for row in study.rows if row.kind == "single")
    images, tested = study.setting("held_out_images"), study.setting("test_images")
    cards: list[Card] = []
    dense, dense_test = study.setting("dense_accuracy"), study.setting("dense_test_accuracy")
    if dense is not None:
        cards.append(
            (
                "dense accuracy",
                f"{percent(dense)} %",
                f"on {number_text(images, '{:,.0f}', absent='the')} held-out training images",
            )
        )
    if dense_test is not None:
        cards.append(
            (
                "dense accuracy, test",
                f"{percent(dense_test)} %",
                f"on {number_text(tested, '{:,.0f}', absent='the')} test images",
            )
        )
    cards.append(("layers", str(len(layers)), f"{len(study.rows)} truncations, {len(study.retrained)} trained again"))
    return Told(
        "truncated kernels",
        "Kernels of the dense network are truncated along cuts of their four indices (o outputs, i inputs, h and w of "
        "the window) and put back. What is lost of their norm stands beside what is lost of the accuracy. Nothing is "
        "compressed.",
        tuple(cards),
        None,
        (
            "Held-out images are training images: a network that has seen them scores too high on them, before and "
            "after truncation. Levels are told by the test accuracies alone.",
            "New batch-norm statistics come from few plain images, and can hurt: compare with the dense network under "
            "new statistics.",
            "A random error is as long as the truncation error; one random draw stands behind each figure unless the "
            "settings say more.",
            "After training the best epoch was chosen on the held-out images, so that accuracy is too high as well; "
            "the test accuracy is not.",
        ),
    )


def _degeneracy(study: DegeneracyStudy) -> Told:
    layers = distinct(row.layer for row in study.rows)
    cards: list[Card] = [("layers", str(len(layers)), f"{len(study.rows)} decompositions")]
    for method in distinct(row.method for row in study.rows):
        rows = [row for row in study.rows if row.method == method]
        bad = distinct(row.layer for row in rows if row.degenerate)
        count = sum(row.degenerate for row in rows)
        cards.append(
            (
                f"degenerate under {study.methods.get(method, method)}",
                f"{len(bad)} of {len(layers)} layers",
                f"{count} of {len(rows)} decompositions",
            )
        )
    findings = Table(("layer", "finding"), tuple((name, said) for name, said in study.verdicts.items()))
    return Told(
        "degeneracy of CP decompositions",
        "Each kernel, as the tensor D^2 x S x T, is decomposed by CP at growing ranks. Where terms grow and cancel one "
        "another, the decomposition is degenerate: its error falls, and fine-tuning diverges. Nothing is replaced.",
        tuple(cards),
        findings,
        (
            "Degenerate: two terms are nearly opposite (cosine below -0.9) and all terms together are long (sum of "
            "squared intensities above 10 ||K||^2).",
            "Larger groups cancel: terms are that long, and no two of them are opposite.",
            "All methods start from the same random factors and run with their default effort: methods are compared as "
            "they are used, not at their limits.",
        ),
    )


def _layers(study: LayerStudy) -> Told:
    layers, formats = distinct(row.layer for row in study.rows), distinct(row.format for row in study.rows)
    tuned = any(row.accuracy_tuned is not None for row in study.rows)
    return Told(
        "layers, one by one",
        "One layer at a time is factorised in the plain norm, put into the dense network and scored"
        + ("; then its chain is fine-tuned for a moment and scored again." if tuned else "."),
        (
            ("dense accuracy", f"{percent(study.dense_accuracy)} %", "on the same held-out training images"),
            ("layers", str(len(layers)), f"{len(study.rows)} chains were tried"),
            ("formats", str(len(formats)), ", ".join(formats)),
        ),
        None,
        (
            "Held-out images are training images, and they choose the best state of the fine-tuning: levels are too "
            "high. No test image is read.",
            "Nothing is corrected or repaired around a layer: these are figures of the formats, and not of what "
            "compress would reach.",
            "The rank of a format with several ranks is drawn at the largest of them; the tables have them all.",
        ),
    )


_PAGES: dict[type[StudyResult], tuple[Callable[[Any], list[Chart]], Callable[[Any], Told]]] = {
    TruncationStudy: (truncation_charts, _truncation),
    DegeneracyStudy: (degeneracy_charts, _degeneracy),
    LayerStudy: (layer_study_charts, _layers),
}
"""Plots and words of each study."""
