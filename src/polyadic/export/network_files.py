"""A network as files that other programs run, each verified beside the network before it appears."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.engines import first_line, input_names, refused_layer, silence, tensors_of
from polyadic.errors import EngineError, StorageError
from polyadic.export.export_source import ExportSource, run_network
from polyadic.export.file_formats import FILE_FORMATS, FileFormat, Run
from polyadic.storage import json_bytes, read_document, storage_error, write_together
from polyadic.surgery import copy_model

RECORD = "export.json"
_TRACED = 2  # samples of the example: a batch of one would be taken for a constant

LIMIT = 1e-4
"""Largest difference that rounding in float32 explains, relative to the largest output."""


@dataclass(frozen=True)
class Comparison:
    """How far a file's answers are from the network's.

    Attributes:
        batch: samples of the pass.
        max_difference: largest difference of any number of any output.
        mean_difference: mean over all numbers of all outputs.
        relative: the largest difference of an output divided by the largest of its numbers, of the worst output.
        top1_agreement: share of positions of the first output (samples, or pixels where it has them) whose largest
            channel is the same; None where it has no channels to choose from.
    """

    batch: int
    max_difference: float
    mean_difference: float
    relative: float
    top1_agreement: float | None

    @property
    def agrees(self) -> bool:
        """Whether the difference is one of rounding; one that is not a number is none."""
        return self.relative <= LIMIT


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written, and how it answers.

    Attributes:
        target: its format.
        path: where it lies.
        bytes: of it and of the files beside it that belong to it.
        sha256: of each of its files, by name.
        seconds: to write it.
        engine: what ran it for the comparison.
        comparisons: one for each size of batch.
    """

    target: str
    path: Path
    bytes: int
    sha256: dict[str, str]
    seconds: float
    engine: str
    comparisons: tuple[Comparison, ...]


def export_network(
    model: nn.Module,
    paths: Mapping[str, Path],
    inputs: Tensor | tuple[Tensor, ...],
    *,
    notes: Mapping[str, str] | None = None,
    real: bool = False,
) -> tuple[ExportedFile, ...]:
    """Write ``model`` to all of ``paths``, or to none of them, in evaluation mode and float32.

    Every file takes any number of samples. Before it appears it is run beside the model, with one sample and with all
    of ``inputs``. ``export.json`` in the same folder says how they compare.

    Args:
        model: anything that ``torch.export`` takes; it is left as it was.
        paths: the file of each format of :data:`FILE_FORMATS`, by the format's name.
        inputs: what to compare on, batch first; nothing of it is kept in the files.
        notes: texts by name, kept in the files; "polyadic.version" and the like.
        real: whether ``inputs`` are data, which ``export.json`` then says.

    Raises:
        EngineError: an unknown format, a missing package, a model that cannot be written, or a file that does not
            answer as the model does.
        StorageError: the disk refused; what stood there before is untouched.
    """
    given = (inputs,) if isinstance(inputs, Tensor) else inputs
    samples = tuple(tensor.detach().cpu().float().contiguous() for tensor in given)
    for name, path in paths.items():
        check_file_format(name, path)
    network = copy_model(model).eval().cpu().float().requires_grad_(False)
    source = ExportSource(network, _example(samples), notes or {})
    contents: dict[Path, bytes] = {}
    written = []
    with tempfile.TemporaryDirectory(prefix="polyadic-export-") as folder:
        for name, path in paths.items():
            made, files = _write_one(FILE_FORMATS[name], source, samples, path, Path(folder))
            written.append(made)
            contents |= files
    records = _records(written, source, real)
    write_together({**records, **contents})  # the records appear last
    return tuple(written)


def check_file_format(name: str, path: Path) -> None:
    """Say early whether a file can be written.

    Raises:
        EngineError: there is no such format, its package is missing, or the file has another suffix.
    """
    if name not in FILE_FORMATS:
        raise EngineError(f"a network is written as one of {', '.join(FILE_FORMATS)}; got {name!r}")
    target = FILE_FORMATS[name]
    reason = target.missing()
    if reason is not None:
        raise EngineError(f"{name}: {reason}")
    if path.suffix != target.suffixes[0]:
        raise EngineError(f"the file of {name} ends in {target.suffixes[0]}; got {path}: name it so")


def _write_one(
    target: FileFormat, source: ExportSource, samples: tuple[Tensor, ...], path: Path, folder: Path
) -> tuple[ExportedFile, dict[Path, bytes]]:
    """A file written to ``folder`` and compared, and what belongs where ``path`` is."""
    draft, began = folder / path.name, time.perf_counter()
    try:
        target.write(source, draft)
        seconds = time.perf_counter() - began
        run = target.open(draft)
        comparisons = tuple(
            compare_outputs(source.network, run, tuple(tensor[:batch] for tensor in samples))
            for batch in sorted({1, len(samples[0])})
        )
    except OSError as error:
        raise storage_error(draft, error) from error
    except EngineError:
        raise
    except Exception as error:  # whatever a stranger's compiler raises
        culprit = _culprit(target, source, folder)
        raise EngineError(
            f"{target.name} does not take {culprit}: {type(error).__name__}: {first_line(error)}"
        ) from error
    for comparison in comparisons:
        if not comparison.agrees:
            raise EngineError(
                f"a file differs from its network by at most {LIMIT:g} of the largest output; {path.name} in "
                f"{target.engine} differs by {comparison.relative:.1e} at batch {comparison.batch}: nothing was "
                "written; leave this format out, or look for the layer that the engine runs otherwise"
            )
    contents = {path.with_suffix(file.suffix): file.read_bytes() for file in target.files(draft)}
    digests = {file.name: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    size = sum(len(content) for content in contents.values())
    return ExportedFile(target.name, path, size, digests, seconds, target.engine, comparisons), contents


def _culprit(target: FileFormat, source: ExportSource, folder: Path) -> str:
    """The layer that is in the way, and what to do about it; the network where no layer is by itself."""
    draft = folder / f"layer{target.suffixes[0]}"

    def attempt(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        target.write(ExportSource(layer, inputs, {}), draft)
        target.open(draft)(inputs)

    with silence("torch.onnx"):
        layer = refused_layer(source.network, source.example, attempt)
    return "this network" if layer is None else f"{layer} (leave this format out, or write that layer otherwise)"


def _example(samples: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What the network is traced with: as large as a sample, and nobody's data."""
    seeded = torch.Generator().manual_seed(0)
    return tuple(torch.randn(_TRACED, *tensor.shape[1:], generator=seeded) for tensor in samples)


def _records(written: list[ExportedFile], source: ExportSource, real: bool) -> dict[Path, bytes]:
    """``export.json`` of every folder; what it said of other files that are still there stays."""
    outputs = zip(source.output_names, tensors_of(run_network(source.network, source.example)), strict=True)
    inputs = zip(input_names(len(source.example)), source.example, strict=True)
    described = {
        "inputs": {name: ["batch", *tensor.shape[1:]] for name, tensor in inputs},
        "outputs": {name: ["batch", *tensor.shape[1:]] for name, tensor in outputs},
        "notes": dict(source.notes),
        "compared_on": "data" if real else "random normal numbers",
    }
    documents: dict[Path, dict[str, Any]] = {}
    for file in written:
        path = file.path.parent / RECORD
        documents.setdefault(path, _entries_that_exist(path))[file.path.name] = {
            **{key: value for key, value in asdict(file).items() if key != "path"},
            **described,
        }
    return {path: json_bytes({"version": 1, "files": files}, indent=2) for path, files in documents.items()}


def _entries_that_exist(path: Path) -> dict[str, Any]:
    """The files that ``path`` speaks of, as far as they still exist."""
    if not path.exists():
        return {}
    files = read_document(path).get("files")
    if not isinstance(files, dict):
        raise StorageError(f"{path} is no record of exports: move it away")
    return {name: entry for name, entry in files.items() if (path.parent / name).exists()}


def compare_outputs(network: nn.Module, run: Run, inputs: tuple[Tensor, ...]) -> Comparison:
    """Run network and file on ``inputs`` (batch first).

    Raises:
        EngineError: the file answers with other outputs, or outputs of other shapes.
    """
    wanted = tensors_of(run_network(network, inputs))
    got = run(inputs)
    shapes = [tuple(tensor.shape) for tensor in wanted], [tuple(tensor.shape) for tensor in got]
    if shapes[0] != shapes[1]:
        raise EngineError(
            f"a file answers as its network does; for a batch of {len(inputs[0])} outputs of shape {shapes[0]} were "
            f"expected, and {shapes[1]} came"
        )
    pairs = [(a.double(), b.double()) for a, b in zip(wanted, got, strict=True) if a.numel()]
    differences = [(a - b).abs() for a, b in pairs]
    count = sum(difference.numel() for difference in differences)
    return Comparison(
        batch=len(inputs[0]),
        max_difference=_worst([float(difference.max()) for difference in differences]),
        mean_difference=sum(float(difference.sum()) for difference in differences) / max(count, 1),
        relative=_worst([_relative(d, a) for d, (a, _) in zip(differences, pairs, strict=True)]),
        top1_agreement=_top1(*pairs[0]) if pairs else None,
    )


def _relative(difference: Tensor, wanted: Tensor) -> float:
    largest, scale = float(difference.max()), float(wanted.abs().max())
    return largest / scale if scale else (0.0 if largest == 0.0 else math.inf)


def _worst(values: list[float]) -> float:
    """The largest; not a number if one of them is none, which ``max`` may pass over."""
    return math.nan if any(math.isnan(value) for value in values) else max(values, default=0.0)


def _top1(wanted: Tensor, got: Tensor) -> float | None:
    if wanted.ndim < 2 or wanted.shape[1] < 2:
        return None
    return float((wanted.argmax(1) == got.argmax(1)).double().mean())
