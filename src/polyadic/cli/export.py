"""``polyadic export``: a saved result, or any network, as files that other programs run."""

from __future__ import annotations

import hashlib
import json as json_text
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from polyadic.cli.arguments import (
    AsJson,
    InputShape,
    Mean,
    Std,
    Weights,
    emit,
    example_of,
    model_of,
    numbers,
    reported,
)
from polyadic.data import ImageData, load_data
from polyadic.errors import LayerError, PolyadicError
from polyadic.export import TARGETS, ExportedFile, Origin, check_target, export_network, load, origin_of, read_plan
from polyadic.models import LoadedModel
from polyadic.pipeline import environment


@dataclass(frozen=True)
class _Source:
    """What is exported, what it is compared on, and what is known of it."""

    model: nn.Module
    images: ImageData | None
    example: Tensor
    notes: dict[str, str]


@reported
def export(
    target: Annotated[str, typer.Argument(metavar="DIR|MODEL", help="folder of a result, or a model as in compress")],
    to: Annotated[list[str], typer.Option(help=f"{', '.join(TARGETS)} (repeatable)", metavar="FORMAT")],
    out: Annotated[
        Path | None, typer.Option(help="a file, or a folder for model.onnx and the like; DIR for a result")
    ] = None,
    data: Annotated[str | None, typer.Option(help="as in compress; images to compare the files on")] = None,
    batch: Annotated[int, typer.Option(help="samples of the larger batch that the files are compared on")] = 8,
    weights: Weights = None,
    input_shape: InputShape = None,
    mean: Mean = None,
    std: Std = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="run the code that a result in DIR names")] = False,
    json: AsJson = False,
) -> None:
    """Write a network as ONNX, OpenVINO or torch.export files, and check that they answer as the network does."""
    folder = Path(target)
    paths = _paths(to, out, folder if folder.is_dir() else None)
    for name, path in paths.items():
        check_target(name, path)
    if batch < 2:
        raise PolyadicError(f"files are compared at batch 1 and at a larger one; got --batch {batch}: give 2 or more")
    means, stds = numbers(mean, "--mean"), numbers(std, "--std")
    if folder.is_dir():
        if weights is not None:
            raise PolyadicError(f"{folder} holds its own weights: leave out --weights")
        source = _saved(folder, data, input_shape, means, stds, trust_code)
    else:
        source = _bare(target, weights, data, input_shape, means, stds)
    real = source.images is not None
    inputs = _inputs(source, batch)
    files = export_network(source.model, paths, inputs, notes=source.notes, real=real)
    if json:
        emit({"target": target, "compared_on": _compared_on(real), "files": [_entry(file) for file in files]})
        return
    _show(files, target, _compared_on(real))


def _paths(to: list[str], out: Path | None, folder: Path | None) -> dict[str, Path]:
    """Where each format goes."""
    unknown = next((name for name in to if name not in TARGETS), None)
    if unknown is not None:
        raise PolyadicError(f"--to is one of {', '.join(TARGETS)}; got {unknown!r}")
    place = out or folder
    if place is None:
        raise PolyadicError("a model has no folder of its own: say with --out where its files go")
    if place.suffix in {target.suffixes[0] for target in TARGETS.values()} and not place.is_dir():
        if len(set(to)) > 1:
            raise PolyadicError(f"{place} is one file, and {len(set(to))} formats were asked for: give a folder")
        return {to[0]: place}
    return {name: place / f"model{TARGETS[name].suffixes[0]}" for name in to}


def _saved(
    folder: Path,
    data: str | None,
    input_shape: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    trust_code: bool,
) -> _Source:
    document = read_plan(folder)
    origin = origin_of(document)
    mean, std = mean or origin.mean, std or origin.std
    images = _images(data, mean, std)
    model = load(folder, trust_code=trust_code)
    plan = json_text.dumps(document["layers"], sort_keys=True, separators=(",", ":")).encode()
    if input_shape is None and images is None:
        if origin.input_shape is None:
            raise LayerError(f"{folder} does not say how large an input is: give --input-shape C,H,W or --data")
        example = torch.zeros(1, *origin.input_shape)
    else:
        example = example_of(LoadedModel(model, str(folder), None), images, input_shape)
    digest = {"polyadic.plan_sha256": hashlib.sha256(plan).hexdigest()}
    return _Source(model, images, example, _notes(origin, images, mean, std) | digest)


def _bare(
    text: str,
    weights: Path | None,
    data: str | None,
    input_shape: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> _Source:
    images = _images(data, mean, std)
    loaded, classes = model_of(text, weights, images)
    example = example_of(loaded, images, input_shape)
    return _Source(loaded.model, images, example, _notes(Origin(text, classes), images, mean, std))


def _images(data: str | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> ImageData | None:
    return None if data is None else load_data(data, mean=mean, std=std)


def _notes(
    origin: Origin, images: ImageData | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> dict[str, str]:
    """What a file says of itself: the library's version, where the network comes from, what its inputs are."""
    if images is not None:
        mean, std = images.mean, images.std
    known = {
        "polyadic.version": str(environment()["polyadic"]),
        "polyadic.origin": origin.model or "a model of the user",
        "polyadic.classes": str(origin.classes) if origin.classes is not None else None,
        "polyadic.mean": json_text.dumps(mean) if mean else None,
        "polyadic.std": json_text.dumps(std) if std else None,
        "polyadic.preprocessing": (
            "(pixels / 255 - mean) / std for each channel, as float32, batch x channels x height x width"
            if mean and std
            else None
        ),
    }
    return {key: value for key, value in known.items() if value is not None}


def _inputs(source: _Source, batch: int) -> Tensor:
    """What files are compared on: held-out images, or normal numbers."""
    images = source.images
    if images is None:
        return torch.randn(batch, *source.example.shape[1:], generator=torch.Generator().manual_seed(0))
    count = min(batch, len(images.held_out))
    if source.example.shape[1:] != images.image_shape:
        raise PolyadicError(
            f"images are compared at their own size {images.image_shape}; got --input-shape "
            f"{tuple(source.example.shape[1:])}: leave out one of --data and --input-shape"
        )
    return images.normalise(images.held_out.images(torch.arange(count)))


def _compared_on(real: bool) -> str:
    return "held-out images" if real else "random normal numbers (give --data for images)"


def _entry(file: ExportedFile) -> dict[str, Any]:
    return {**asdict(file), "path": str(file.path)}


def _show(files: tuple[ExportedFile, ...], target: str, compared_on: str) -> None:
    out = Console()
    table = Table("file", "run by", "batch", "largest difference", "mean", "relative", "same top 1")
    for file in files:
        for comparison in file.comparisons:
            agreement = comparison.top1_agreement
            table.add_row(
                file.path.name,
                file.engine,
                str(comparison.batch),
                f"{comparison.max_difference:.1e}",
                f"{comparison.mean_difference:.1e}",
                f"{comparison.relative:.1e}",
                "" if agreement is None else f"{100 * agreement:.1f} %",
            )
    out.print(table)
    lines = [f"written to {file.path}: {file.bytes:,} bytes" for file in files]
    lines.append(f"{target}: compared with PyTorch on {compared_on}; relative to the largest output")
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
