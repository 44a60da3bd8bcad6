"""Two results beside each other: headline, layers that differ, settings that differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from polyadic.reporting.chart import Table
from polyadic.reporting.folder import Folder, read_result
from polyadic.reporting.headline import assess
from polyadic.reporting.layer_charts import strip, what_happened
from polyadic.reporting.page import plain_text, render
from polyadic.reporting.run_charts import drop_chart, interval_text
from polyadic.reporting.svg_parts import xml_safe
from polyadic.schema import LayerOutcome, Summary
from polyadic.storage import write_together

_HEADLINE: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("score of the dense network", lambda summary: summary.words.said(summary.dense_score)),
    ("score compressed", lambda summary: summary.words.said(summary.compressed_score)),
    ("score before fine-tuning", lambda summary: summary.words.said(summary.score_before_finetuning)),
    ("drop", lambda summary: summary.words.amount(summary.drop)),
    ("95 % interval of the drop", lambda summary: interval_text(summary)),
    ("drop allowed", lambda summary: "" if summary.max_drop is None else summary.words.allowed(summary.max_drop)),
    ("budget", lambda summary: str(summary.provenance.get("budget") or "")),
    ("MACs before", lambda summary: f"{summary.dense.macs:,}"),
    ("MACs after", lambda summary: f"{summary.compressed.macs:,}"),
    ("times fewer MACs", lambda summary: f"{summary.mac_reduction:.2f}"),
    ("parameters after", lambda summary: f"{summary.compressed.params:,}"),
    ("bytes after", lambda summary: f"{summary.compressed.bytes:,}"),
    ("layers factorised", lambda summary: str(sum(layer.status == "factorised" for layer in summary.layers))),
    ("seconds", lambda summary: f"{sum(summary.seconds.values()):.0f}"),
)


def compare(first: Path | str, second: Path | str, out: Path | str) -> Path:
    """Write a page that shows two results beside each other; say where it is.

    Raises:
        StorageError: a file is missing, damaged or of another version, or the disk refused.
    """
    path = Path(out)
    write_together({path: xml_safe(comparison_html(read_result(first), read_result(second)))})
    return path


def comparison_html(first: Folder[Summary], second: Folder[Summary]) -> str:
    """The page."""
    a, b = first.result, second.result
    names = f"A: {first.path.resolve().name}", f"B: {second.path.resolve().name}"
    return render(
        "comparison.html",
        title=f"{names[0]} and {names[1]}, compared",
        runs=list(zip(("A", "B"), (first, second), (assess(a), assess(b)), strict=True)),
        headline=Table(("", *names), tuple((label, said(a), said(b)) for label, said in _HEADLINE)),
        drop=drop_chart(list(zip(names, (a, b), strict=True))),
        strips=[
            strip(a.layers, a.dense.macs, "strip-a", names[0]),
            strip(b.layers, b.dense.macs, "strip-b", names[1]),
        ],
        layers=Table(("layer", "A", "B", "MACs in A", "MACs in B"), tuple(_layers_that_differ(a, b))),
        settings=Table(("setting", "A", "B"), tuple(_settings_that_differ(a, b))),
        caution=_caution(a, b),
    )


def _layers_that_differ(a: Summary, b: Summary) -> list[tuple[str, ...]]:
    """Layers with another format, rank or cost, or that only one of the networks has."""
    in_a, in_b = ({layer.name: layer for layer in summary.layers} for summary in (a, b))
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys([*in_a, *in_b]):
        one, other = in_a.get(name), in_b.get(name)
        if _fate(one) != _fate(other):
            rows.append((name, _said(one), _said(other), _macs(one), _macs(other)))
    return rows


def _fate(layer: LayerOutcome | None) -> tuple[object, ...] | None:
    return None if layer is None else (layer.status, layer.format, str(layer.rank), layer.macs_after)


def _said(layer: LayerOutcome | None) -> str:
    return "not in this network" if layer is None else what_happened(layer)


def _macs(layer: LayerOutcome | None) -> str:
    return "" if layer is None else f"{layer.macs_after:,}"


def _settings_that_differ(a: Summary, b: Summary) -> list[tuple[str, ...]]:
    keys = [key for key in dict.fromkeys([*a.provenance, *b.provenance]) if key != "finetuning"]
    differing = [key for key in keys if a.provenance.get(key) != b.provenance.get(key)]
    return [(str(key), plain_text(a.provenance.get(key)), plain_text(b.provenance.get(key))) for key in differing]


def _caution(a: Summary, b: Summary) -> list[str]:
    """Why two numbers might not be comparable."""
    said = []
    if a.dense != b.dense or [layer.name for layer in a.layers] != [layer.name for layer in b.layers]:
        said.append("The two runs began with different networks: compare their drops and ratios with care.")
    if any(a.provenance.get(key) != b.provenance.get(key) for key in ("data_digests", "samples_digest")):
        said.append("The two runs were scored on different data.")
    names = tuple(one.words.label(one.score_name) for one in (a, b))
    if names[0] != names[1]:
        said.append(f"The two runs have different scores, {names[0]} and {names[1]}: do not compare their drops.")
    return said
