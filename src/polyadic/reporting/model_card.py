"""The model card: what the folder holds, what was measured, how to load it with Polyadic and without."""

from __future__ import annotations

import json

from polyadic.reporting.tables import HEADLINE_COLUMNS, LAYER_COLUMNS, Rows, headline_rows, layer_rows
from polyadic.schema import Summary

_WITHOUT = """import json
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

model = ...  # the dense network's structure, whatever its weights
for choice in json.loads(Path("plan.json").read_text())["layers"]:
    dense = model.get_submodule(choice["layer"])
    stages = [getattr(nn, stage["class"])(**stage["arguments"]) for stage in choice["stages"]]
    chain = nn.Sequential(*stages).to(dense.weight)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is dense:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, chain)
model.load_state_dict(load_file("model.safetensors"))
model.eval()"""


def model_card(summary: Summary, source: str | None) -> str:
    """Markdown for the folder of a result.

    ``source`` is the text of the dense network, None if only the user has it.
    """
    name = source or "a network"
    load = 'polyadic.load(".")' if source else 'polyadic.load(".", model=...)  # the dense one'
    known = summary.provenance
    lines = [
        f"# {name}, compressed",
        "",
        f"{summary.mac_reduction:.2f}x fewer multiply-accumulates by low-rank tensor decomposition, "
        f"{_drop_in_words(summary)}.",
        "",
        markdown(HEADLINE_COLUMNS, headline_rows(summary)),
        "",
        "Scores were read once, at the end, on test images that chose nothing; ranks and epochs were chosen on "
        "held-out training images. " + str(known.get("macs_convention", "")) + ".",
        "",
        "",
        *(f"**Warning:** {warning}.\n" for warning in summary.warnings),
        "## Load",
        "",
        "```python",
        "import polyadic",
        "",
        f"model = {load}",
        "```",
        "",
        "Without Polyadic, with torch and safetensors alone:",
        "",
        "```python",
        _WITHOUT,
        "```",
        "",
        "## Layers",
        "",
        markdown(LAYER_COLUMNS, layer_rows(summary)),
        "",
        "Error and sensitivity are those of the decomposition, before fine-tuning (kernel scaled to unit norm).",
        "",
        "## Provenance",
        "",
        "```json",
        json.dumps({key: value for key, value in known.items() if key != "finetuning"}, indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def markdown(columns: tuple[str, ...], rows: Rows) -> str:
    """A table in Markdown."""
    body = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in body)


def _cell(text: str) -> str:
    """Text without what would end the cell or the row."""
    return " ".join(text.split()).replace("|", "\\|")


def _drop_in_words(summary: Summary) -> str:
    change = "lost" if summary.drop >= 0 else "gained"
    return f"{abs(summary.drop):.2f} points of {summary.score_name} {change} ({summary.max_drop:g} were allowed)"
