"""``polyadic quantize``: a saved result in 8 bits, beside the dense network in 8 bits where its weights are given."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from polyadic.cli.data_arguments import DataArguments, HeldOut
from polyadic.cli.model_or_result import ModelOrResult, TrustCode
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson, Seed
from polyadic.cli.screen import console, emit, print_table, say
from polyadic.data import ImageData
from polyadic.errors import QuantizationError
from polyadic.quantization import (
    QUANTIZERS,
    Quantized,
    QuantizeOptions,
    Quantizer,
    RecipeTrial,
    Row,
    measure_artefacts,
    quantize,
    quantizer_named,
    weight_bits,
)
from polyadic.storage import folder_lock, json_bytes, write_together

VERSION = 1


@command
def quantize_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder of a result")],
    data: DataArguments,
    engine: Annotated[str, typer.Option(help=f"what is to run it: {', '.join(QUANTIZERS)}")] = "onnxruntime",
    weights: Annotated[Path | None, typer.Option(help="weights of the dense network, to compare with it")] = None,
    images: Annotated[int, typer.Option(help="training images that ranges are taken from")] = 512,
    judges: Annotated[int, typer.Option(help="held-out training images that choose how it is done")] = 2000,
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
        found = data.load(seed, held_out, named.origin)
        networks = {} if weights is None else {"dense": named.dense(weights).eval()}
        networks["compressed"] = named.load()[0].model
        made = {
            name: quantize(network, found, quantizer, options, on_trial=_narrator(name, json))
            for name, network in networks.items()
        }
        rows = measure_artefacts(made, found, quantizer, batches=sizes, threads=threads, seconds=seconds)
        document = _document(folder, quantizer, options, found, made, rows, threads)
        contents = {target / "quantization.json": json_bytes(document, indent=2)}
        contents |= {target / f"model.int8{end}": content for end, content in made["compressed"].artefact.files.items()}
        write_together(contents)
        if json:
            emit({"out": str(target), **document})
            return
        _show(rows, document, target)


def _batches(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(",") if part.strip().isdecimal())
    if not sizes or min(sizes) < 1 or len(sizes) != len(text.split(",")):
        raise QuantizationError(f"--batches is a list of numbers from 1 up, such as 1,32; got {text!r}")
    return sizes


def _narrator(name: str, quiet: bool) -> Any:
    def say(trial: RecipeTrial) -> None:
        if not quiet:
            console.print(
                f"{name}: {trial.recipe}: {100 * trial.verdict.accuracy:.2f} % of the held-out images, "
                f"{trial.verdict.divergence:.4f} nats from float32, {trial.bytes:,} bytes",
                highlight=False,
            )

    return say


def _document(
    folder: Path,
    quantizer: Quantizer,
    options: QuantizeOptions,
    data: ImageData,
    made: dict[str, Quantized],
    rows: tuple[Row, ...],
    threads: int,
) -> dict[str, Any]:
    """The content of ``quantization.json``."""
    return {
        "version": VERSION,
        "result": str(folder),
        "engine": quantizer.name,
        "options": asdict(options),
        "threads": threads,
        "weight_bits": weight_bits(),
        "data": data.name,
        "data_digests": data.digests,
        "files": [f"model.int8{end}" for end in made["compressed"].artefact.files],
        "recipes": {
            name: {"chosen": _trial(network.trials[-1]), "tried": [_trial(trial) for trial in network.trials]}
            for name, network in made.items()
        },
        "rows": [{**asdict(row), "times_smaller": rows[0].bytes / row.bytes} for row in rows],
    }


def _trial(trial: RecipeTrial) -> dict[str, Any]:
    return {**asdict(trial.recipe), "bytes": trial.bytes, **asdict(trial.verdict)}


def _show(rows: tuple[Row, ...], document: dict[str, Any], target: Path) -> None:
    numbers = ["accuracy", "points lost", "bytes", "smaller", *(f"ms, batch {batch}" for batch in rows[0].milliseconds)]

    def cells(row: Row) -> tuple[str, ...]:
        low, high = row.drop_interval
        return (
            row.name,
            row.precision,
            f"{100 * row.accuracy:.2f} %",
            f"{row.drop:.2f} ({low:.2f} to {high:.2f})",
            f"{row.bytes:,}",
            f"{rows[0].bytes / row.bytes:.2f}x",
            *(f"{time:.2f}" for time in row.milliseconds.values()),
        )

    title = f"on {document['engine']}, {document['threads']} thread(s); drops and sizes against the first"
    print_table(title, ("network", "format", *numbers), map(cells, rows), numbers)
    if document["weight_bits"] < 8:
        say(
            f"weights have {document['weight_bits']} bits: this processor has no instructions for products of 8 bits "
            "(VNNI) and would cut their sums off. The file runs everywhere"
        )
    say(f"{target}: {', '.join(document['files'])} and quantization.json")
