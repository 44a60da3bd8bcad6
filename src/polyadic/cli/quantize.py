"""``polyadic quantize``: a saved result in 8 bits, beside the dense network in 8 bits where its weights are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from polyadic.cli.data_arguments import HeldOut
from polyadic.cli.evaluate import dense_beside
from polyadic.cli.judge import GivenData, read_data
from polyadic.cli.judge_arguments import JudgeArguments
from polyadic.cli.model_or_result import ModelOrResult, TrustCode
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson, Seed
from polyadic.cli.screen import console, emit, print_table, say
from polyadic.data import ImageData
from polyadic.errors import PolyadicError, QuantizationError
from polyadic.models import LIBRARIES, LoadedModel
from polyadic.quantization import (
    QUANTIZERS,
    Quantized,
    QuantizeOptions,
    Quantizer,
    RecipeTrial,
    Row,
    SampleRow,
    measure_artefacts,
    measure_on_samples,
    quantize,
    quantizer_named,
    weight_bits,
)
from polyadic.schema import ScoreWords
from polyadic.storage import folder_lock, json_bytes, write_together
from polyadic.training import SampleTask

VERSION = 1


@command
def quantize_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder of a result")],
    data: JudgeArguments,
    engine: Annotated[str, typer.Option(help=f"what is to run it: {', '.join(QUANTIZERS)}")] = "onnxruntime",
    weights: Annotated[Path | None, typer.Option(help="weights of the dense network, to compare with it")] = None,
    images: Annotated[int, typer.Option(help="training images, or samples, that ranges are taken from")] = 512,
    judges: Annotated[int, typer.Option(help="held-out images, or samples, that choose how it is done")] = 2000,
    balance: Annotated[bool, typer.Option("--balance/--no-balance", help="move scales along chains first")] = True,
    ends: Annotated[bool, typer.Option("--ends/--no-ends", help="try the first and last layer in float32")] = True,
    batches: Annotated[str, typer.Option(help="batches to time, separated by commas")] = "1,32",
    threads: Annotated[int, typer.Option(help="threads to time with")] = 1,
    seconds: Annotated[float, typer.Option(help="spent on timing each network at each batch")] = 2.0,
    out: Annotated[Path | None, typer.Option(help="folder for the files; DIR itself by default")] = None,
    held_out: HeldOut = None,
    seed: Seed = 0,
    trust_code: TrustCode = False,
    json: AsJson = False,
) -> None:
    """Bring a compressed network to 8 bits after training, and say what that costs and saves."""
    target = out or folder
    with folder_lock(target):
        quantizer, sizes = quantizer_named(engine), _batches(batches)
        options = QuantizeOptions(images=images, judges=judges, balance=balance, ends=ends)
        named = ModelOrResult.named(str(folder), trust_code=trust_code)
        judge = read_data(data, seed, held_out, named.origin)
        loaded, _ = named.load()
        networks = {} if weights is None else {"dense": named.dense(weights).eval()}
        networks["compressed"] = loaded.model
        dense = _own_dense(judge, named, loaded) if weights is None else networks["dense"]
        found = judge.images or _samples(judge, loaded if dense is None else replace(loaded, model=dense))
        made = {
            name: quantize(network, found, quantizer, options, on_trial=_narrator(name, json))
            for name, network in networks.items()
        }
        rows = _rows(made, found, quantizer, sizes, threads, seconds)
        document = {
            **_document(folder, quantizer, options, made, threads),
            **_judged_by(judge, found, dense),
            "rows": [{**asdict(row), "times_smaller": rows[0].bytes / row.bytes} for row in rows],
        }
        contents = {target / "quantization.json": json_bytes(document, indent=2)}
        contents |= {target / f"model.int8{end}": content for end, content in made["compressed"].artefact.files.items()}
        write_together(contents)
        if json:
            emit({"out": str(target), **document})
            return
        _show(rows, found.words if isinstance(found, SampleTask) else None, document, target)


def _own_dense(judge: GivenData, named: ModelOrResult, loaded: LoadedModel) -> nn.Module | None:
    """The dense network, where samples are compared by outputs and code builds it with its own weights."""
    model = named.origin.model
    if judge.images is not None or model is None or model.startswith(LIBRARIES):
        return None
    return dense_beside(named, loaded, None).model


def _samples(judge: GivenData, compared: LoadedModel) -> SampleTask:
    """Samples, judged by the outputs of the network ``compared``, or by a metric.

    Raises:
        PolyadicError: there are none, but a score or a task that knows no samples.
    """
    task = judge.task(compared, None, 0)
    if not isinstance(task, SampleTask):
        raise PolyadicError(
            f"ranges are taken from samples, and {judge.text} gives none: give samples, and a score with --metric"
        )
    return task


def _rows(
    made: dict[str, Quantized],
    data: ImageData | SampleTask,
    quantizer: Quantizer,
    batches: tuple[int, ...],
    threads: int,
    seconds: float,
) -> Sequence[Row | SampleRow]:
    """What networks in both formats are worth, on what nothing else has read."""
    if isinstance(data, SampleTask):
        return measure_on_samples(made, data, quantizer, batches=batches, threads=threads, seconds=seconds)
    return measure_artefacts(made, data, quantizer, batches=batches, threads=threads, seconds=seconds)


def _judged_by(judge: GivenData, data: ImageData | SampleTask, dense: nn.Module | None) -> dict[str, Any]:
    """What ranges were taken from, and what the score is."""
    if isinstance(data, ImageData):
        return {"data": data.name, "data_digests": data.digests}
    known = data.provenance()
    return {
        **judge.provenance(data.example_input()),
        **{name: known[name] for name in ("samples", "samples_digest", "compared")},
        "score_name": data.score_name,
        "score_unit": data.score_unit,
        "compared_with": "compressed" if dense is None else "dense",
    }


def _batches(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(",") if part.strip().isdecimal())
    if not sizes or min(sizes) < 1 or len(sizes) != len(text.split(",")):
        raise QuantizationError(f"--batches is a list of numbers from 1 up, such as 1,32; got {text!r}")
    return sizes


def _narrator(name: str, quiet: bool) -> Any:
    def say(trial: RecipeTrial) -> None:
        if not quiet:
            right, far = trial.verdict.accuracy, trial.verdict.divergence
            if right is None:
                found = f"{100 * far:.3g} % of the outputs of float32 lost"
            else:
                found = f"{100 * right:.2f} % of the held-out images, {far:.4f} nats from float32"
            console.print(f"{name}: {trial.recipe}: {found}, {trial.bytes:,} bytes", highlight=False)

    return say


def _document(
    folder: Path,
    quantizer: Quantizer,
    options: QuantizeOptions,
    made: dict[str, Quantized],
    threads: int,
) -> dict[str, Any]:
    """The content of ``quantization.json``, but for the data and the rows."""
    return {
        "version": VERSION,
        "result": str(folder),
        "engine": quantizer.name,
        "options": asdict(options),
        "threads": threads,
        "weight_bits": weight_bits(),
        "files": [f"model.int8{end}" for end in made["compressed"].artefact.files],
        "recipes": {
            name: {"chosen": _trial(network.trials[-1]), "tried": [_trial(trial) for trial in network.trials]}
            for name, network in made.items()
        },
    }


def _trial(trial: RecipeTrial) -> dict[str, Any]:
    """A recipe and what came of it; of samples the divergence is what is lost of the outputs."""
    right, far = trial.verdict.accuracy, trial.verdict.divergence
    verdict = {"outputs_lost": far} if right is None else {"accuracy": right, "divergence": far}
    return {**asdict(trial.recipe), "bytes": trial.bytes, **verdict}


def _show(rows: Sequence[Row | SampleRow], words: ScoreWords | None, document: dict[str, Any], target: Path) -> None:
    """The table: accuracies of images, or scores in the ``words`` of samples."""
    heads = ("accuracy", "points lost") if words is None else (words.label(words.name), words.lost_label("lost"))
    numbers = [*heads, "bytes", "smaller", *(f"ms, batch {batch}" for batch in rows[0].milliseconds)]

    def cells(row: Row | SampleRow) -> Iterator[str]:
        yield from (row.name, row.precision)
        if isinstance(row, Row):
            low, high = row.drop_interval
            yield from (f"{100 * row.accuracy:.2f} %", f"{row.drop:.2f} ({low:.2f} to {high:.2f})")
        else:
            assert words is not None
            yield from (words.number(row.score), words.lost(row.drop))
        yield from (f"{row.bytes:,}", f"{rows[0].bytes / row.bytes:.2f}x")
        yield from (f"{time:.2f}" for time in row.milliseconds.values())

    title = f"on {document['engine']}, {document['threads']} thread(s); drops and sizes against the first"
    print_table(title, ("network", "format", *numbers), [tuple(cells(row)) for row in rows], numbers)
    if document.get("compared_with") == "compressed" and "metric" not in document["compared"]:
        say("outputs are compared with those of the compressed network in float32; --weights names the dense one's")
    if document["weight_bits"] < 8:
        say(
            f"weights have {document['weight_bits']} bits: this processor has no instructions for products of 8 bits "
            "(VNNI) and would cut their sums off. The file runs everywhere"
        )
    say(f"{target}: {', '.join(document['files'])} and quantization.json")
