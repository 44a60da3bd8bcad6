"""The model card: what the folder holds, what was measured, how to load it with Polyadic and without."""

from __future__ import annotations

import json
import math

from polyadic.reporting.headline import HEADLINE_COLUMNS, TextRows, headline_rows
from polyadic.reporting.records import LAYER_COLUMNS, layer_rows
from polyadic.schema import OWN_LOOP, Summary

_IMPORTS = """import json
from pathlib import Path

{torch}from safetensors.torch import load_file
from torch import nn
"""

_KERNEL = """

def kernel(cores, layer):
    # cores r x rows x columns x q, multiplied out: taps, then digits of outputs, by digits of inputs
    matrix = torch.ones(1, 1, 1).double()
    for core in cores:
        matrix = torch.einsum("mnr,rtsq->mtnsq", matrix, core.double()).flatten(0, 1).flatten(1, 2)
    matrix = matrix.reshape(layer.weight[0, 0].numel(), -1, matrix.shape[1]).permute(1, 2, 0)
    matrix = matrix.transpose(0, 1) if getattr(layer, "transposed", False) else matrix
    return matrix[: layer.weight.shape[0], : layer.weight.shape[1]].reshape(layer.weight.shape)

"""

_LOAD = """
model = ...  # the dense network's structure, whatever its weights
weights = load_file("model.safetensors")
for choice in json.loads(Path("plan.json").read_text())["layers"]:
    dense = model.get_submodule(choice["layer"])
    stages = [getattr(nn, stage["class"])(**stage["arguments"]) for stage in choice["stages"]]
    chain = nn.Sequential(*stages).to(dense.weight)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is dense:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, chain)
{contract}model.load_state_dict(weights)
model.eval()"""

_CONTRACT = """            for number, stage in enumerate(choice["stages"]):
                cores = [weights.pop(f"{name}.{number}.cores.{k}") for k in range(len(stage.get("cores", [])))]
                if cores:
                    weights[f"{name}.{number}.weight"] = kernel(cores, chain[number])
"""


def model_card(summary: Summary, source: str | None, *, tensor_trains: bool = False) -> str:
    """Markdown for the folder of a result.

    Args:
        summary: what was measured.
        source: the text of the dense network, None if only the user has it.
        tensor_trains: whether there are layers kept as the cores of a tensor train, which torch alone multiplies out.
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
        _how_it_was_judged(summary) + " " + str(known.get("macs_convention", "")) + ".",
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
        "Without Polyadic, with torch and safetensors alone"
        + (", tensor trains multiplied out to plain layers:" if tensor_trains else ":"),
        "",
        "```python",
        _without(tensor_trains),
        "```",
        "",
        "## Layers",
        "",
        markdown(LAYER_COLUMNS, layer_rows(summary)),
        "",
        "Error and sensitivity are those of the decomposition, before fine-tuning (kernel scaled to unit norm). The "
        "error is the one that was minimised, in a layer's output where its inputs were measured, else in its kernel.",
        "",
        "## Provenance",
        "",
        "```json",
        json.dumps({key: value for key, value in known.items() if key != "finetuning"}, indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _without(tensor_trains: bool) -> str:
    """The loader for people without Polyadic; what tensor trains take stands in it only if there are any."""
    if tensor_trains:
        return _IMPORTS.format(torch="import torch\n") + _KERNEL + _LOAD.replace("{contract}", _CONTRACT)
    return _IMPORTS.format(torch="") + _LOAD.replace("{contract}", "")


def markdown(columns: tuple[str, ...], rows: TextRows) -> str:
    """A table in Markdown."""
    body = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in body)


def _cell(text: str) -> str:
    """Text without what would end the cell or the row."""
    return " ".join(text.split()).replace("|", "\\|")


def _drop_in_words(summary: Summary) -> str:
    if math.isfinite(summary.compressed_score) and not math.isfinite(summary.dense_score):
        return f"with a {summary.score_name} of {summary.words.said(summary.compressed_score)}"
    if not math.isfinite(summary.drop):
        return f"and what that does to its {summary.score_name} was not measured"
    change = "lost" if summary.drop >= 0 else "gained"
    words = summary.words
    allowed = ""
    if summary.max_drop is not None:
        allowed = f" ({words.allowed(summary.max_drop).split()[0]} were allowed)"
    return f"{words.amount(abs(summary.drop))} of {summary.score_name} {change}{allowed}"


def _how_it_was_judged(summary: Summary) -> str:
    """One sentence or two."""
    words, known = summary.words, summary.provenance
    if summary.is_of_own_loop:
        if not math.isfinite(summary.compressed_score):
            return f"The network was {OWN_LOOP}, and not scored since."
        by = f", by the function `{known['score_function']}`" if known.get("score_function") else ""
        which = "on what samples, and whether they" if words.judged_on is None else "whether they"
        return (
            f"The network was {OWN_LOOP}. It was scored {known.get('scored', 'by its user')}{by}{words.where}; {which} "
            "chose anything in that loop, the user knows."
        )
    if words.judged_on is None:
        function = known.get("score_function")
        by = f"the function `{function}`" if function else "one function"
        return (
            f"Every score is that of {by}, by which ranks were chosen too: there was no other data to judge the result "
            "by, so it is likely to flatter it."
        )
    if words.judged_on == "test images":
        return (
            "Scores were read once, at the end, on test images that chose nothing; ranks and epochs were chosen on "
            "held-out training images."
        )
    return f"Scores were read once, at the end, on the {words.judged_on}, which chose nothing."
