"""``polyadic export``: a saved result, or any network, as files that other programs run."""

from __future__ import annotations

import hashlib
import json as json_text
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from polyadic.cli.judge import GivenData, read_data
from polyadic.cli.judge_arguments import ExampleArguments
from polyadic.cli.model_or_result import ModelOrResultArguments
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson
from polyadic.cli.screen import emit, print_table, say
from polyadic.engines import environment
from polyadic.errors import DataError, PolyadicError
from polyadic.export import FILE_FORMATS, ExportedFile, Origin, check_file_format, export_network
from polyadic.layers import Inputs, as_arguments, first_samples, sample_count, sample_shapes
from polyadic.models import LoadedModel
from polyadic.storage import folder_lock

COLUMNS = ("file", "run by", "batch", "largest difference", "mean", "relative", "same top 1")


@dataclass(frozen=True, kw_only=True)
class ComparedInputArguments(ExampleArguments):
    """What files are compared on, and how large an input is."""

    data: Annotated[str | None, typer.Option(help="as in compress; samples or images to compare the files on")] = None


@command
def export_command(
    target: ModelOrResultArguments,
    data: ComparedInputArguments,
    to: Annotated[list[str], typer.Option(help=f"{', '.join(FILE_FORMATS)} (repeatable)", metavar="FORMAT")],
    out: Annotated[
        Path | None, typer.Option(help="a file, or a folder for model.onnx and the like; DIR for a result")
    ] = None,
    batch: Annotated[int, typer.Option(help="samples of the larger batch that the files are compared on")] = 8,
    json: AsJson = False,
) -> None:
    """Write a network as ONNX, OpenVINO or torch.export files, and check that they answer as it does."""
    folder = Path(target.target)
    paths = _paths(to, out, folder if folder.is_dir() else None)
    for name, path in paths.items():
        check_file_format(name, path)
    if batch < 2:
        raise PolyadicError(f"files are compared at batch 1 and at a larger one; got --batch {batch}: give 2 or more")
    with folder_lock(next(iter(paths.values())).parent):
        named = target.read()
        judge = read_data(data, origin=named.origin)
        loaded, origin = named.load(judge.images)
        inputs = _inputs(judge, loaded, batch)
        notes = _notes(judge, origin, first_samples(inputs, 1))
        if named.plan is not None:
            plan = json_text.dumps(named.plan["layers"], sort_keys=True, separators=(",", ":")).encode()
            notes["polyadic.plan_sha256"] = hashlib.sha256(plan).hexdigest()
        given = as_arguments(loaded.model, inputs)
        files = export_network(loaded.model, paths, given, notes=notes, real=data.data is not None)
    compared_on = "random normal numbers (give --data for others)" if data.data is None else f"samples of {data.data}"
    compared_on = compared_on if judge.images is None else "held-out images"
    if json:
        entries = [{**asdict(file), "path": str(file.path)} for file in files]
        emit({"target": target.target, "compared_on": compared_on, "files": entries})
        return
    print_table("", COLUMNS, [row for file in files for row in _rows(file)])
    say(
        *(f"written to {file.path}: {file.bytes:,} bytes" for file in files),
        f"{target.target}: compared with PyTorch on {compared_on}; relative to the largest output",
    )


def _paths(to: list[str], out: Path | None, folder: Path | None) -> dict[str, Path]:
    """Where each format goes."""
    unknown = next((name for name in to if name not in FILE_FORMATS), None)
    if unknown is not None:
        raise PolyadicError(f"--to is one of {', '.join(FILE_FORMATS)}; got {unknown!r}")
    place = out or folder
    if place is None:
        raise PolyadicError("a model has no folder of its own: say with --out where its files go")
    if place.suffix in {target.suffixes[0] for target in FILE_FORMATS.values()} and not place.is_dir():
        if len(set(to)) > 1:
            raise PolyadicError(f"{place} is one file, and {len(set(to))} formats were asked for: give a folder")
        return {to[0]: place}
    return {name: place / f"model{FILE_FORMATS[name].suffixes[0]}" for name in to}


def _notes(judge: GivenData, origin: Origin, example: Inputs) -> dict[str, str]:
    """What a file says of itself: the library's version, where the network comes from, what its inputs are."""
    origin = judge.completed(origin, example)
    images = judge.images
    mean, std = (origin.mean, origin.std) if images is None else (tuple(images.mean), tuple(images.std))
    known = {
        "polyadic.version": str(environment()["polyadic"]),
        "polyadic.origin": origin.model or "a model of the user",
        "polyadic.classes": str(origin.classes) if origin.classes is not None else None,
        "polyadic.mean": json_text.dumps(mean) if mean else None,
        "polyadic.std": json_text.dumps(std) if std else None,
        "polyadic.preprocessing": _preprocessing(origin) if mean and std else None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _preprocessing(origin: Origin) -> str:
    axes = "height x width x channels" if origin.layout == "NHWC" else "channels x height x width"
    order = " in the order blue, green, red" if origin.channel_order == "bgr" else ""
    return f"(pixels / 255 - mean) / std for each channel{order}, as float32, batch x {axes}"


def _inputs(judge: GivenData, loaded: LoadedModel, batch: int) -> Inputs:
    """What files are compared on: held-out images, samples, or normal numbers.

    Raises:
        PolyadicError: images are of another size than is said.
        DataError: there is only one sample.
    """
    given = judge.inputs(loaded, batch)
    if given is None or judge.images is not None:
        shape = sample_shapes(judge.example(loaded))[0]
        if given is None:
            return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
        if sample_shapes(given)[0] != shape:
            raise PolyadicError(
                f"images are compared at their own size {sample_shapes(given)[0]}; got --input-shape {shape}: leave "
                "out one of --data and --input-shape"
            )
    if sample_count(given) < 2:
        raise DataError(f"files are compared at batch 1 and at a larger one; {judge.text} gives one sample: add some")
    return given


def _rows(file: ExportedFile) -> list[tuple[str, ...]]:
    return [
        (
            file.path.name,
            file.engine,
            str(comparison.batch),
            f"{comparison.max_difference:.1e}",
            f"{comparison.mean_difference:.1e}",
            f"{comparison.relative:.1e}",
            "" if comparison.top1_agreement is None else f"{100 * comparison.top1_agreement:.1f} %",
        )
        for comparison in file.comparisons
    ]
