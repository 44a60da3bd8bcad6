"""Networks to 8 bits and measured: ranges from training images, recipes from held-out ones, test images once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.engines import Conditions, Prepared, first_line, time_interleaved
from polyadic.errors import QuantizationError
from polyadic.quantization.balance import balance_chains
from polyadic.quantization.choose import Judge, OnEngine, RecipeTrial, choose_recipe
from polyadic.quantization.onnx_runtime import OnnxRuntimeQuantizer
from polyadic.quantization.open_vino import OpenVinoQuantizer
from polyadic.quantization.quantizer import Artefact, QuantizeOptions, Quantizer
from polyadic.quantization.torch_ao import TorchAOQuantizer
from polyadic.training import drop_interval, score_images
from polyadic.training.execution import Execution

QUANTIZERS: dict[str, Quantizer] = {
    quantizer.name: quantizer for quantizer in (OnnxRuntimeQuantizer(), OpenVinoQuantizer(), TorchAOQuantizer())
}
"""What networks can be quantized by, the usual one first."""


@dataclass(frozen=True)
class Quantized:
    """A network in 8 bits, and how it came about.

    Attributes:
        plain: its files in float32.
        artefact: its files in 8 bits.
        trials: all recipes that were tried; the last one was chosen.
    """

    plain: Artefact
    artefact: Artefact
    trials: tuple[RecipeTrial, ...]


@dataclass(frozen=True)
class Row:
    """One network as the table shows it.

    Attributes:
        name: of the network, such as "compressed".
        precision: "float32" or "int8".
        accuracy: fraction of the test images.
        drop: points lost against the first row.
        drop_interval: 95 % interval of them, paired image by image.
        bytes: of its files.
        milliseconds: median time of a pass, by batch.
    """

    name: str
    precision: str
    accuracy: float
    drop: float
    drop_interval: tuple[float, float]
    bytes: int
    milliseconds: Mapping[int, float]


def quantizer_named(name: str) -> Quantizer:
    """The quantizer for the engine of that name.

    Raises:
        QuantizationError: there is none.
    """
    if name not in QUANTIZERS:
        raise QuantizationError(f"networks are quantized for {', '.join(QUANTIZERS)}; got {name!r}")
    return QUANTIZERS[name]


def quantize(
    network: nn.Module,
    data: ImageData,
    quantizer: Quantizer,
    options: QuantizeOptions | None = None,
    *,
    on_trial: Callable[[RecipeTrial], None] = lambda trial: None,
) -> Quantized:
    """``network`` in 8 bits; it is left as it was.

    Training images give ranges, held-out training images choose the recipe; the test images are not touched.

    Args:
        network: maps normalised images to logits.
        data: the images that it was trained on.
        quantizer: for the engine that is to run it.
        options: see :class:`QuantizeOptions`.
        on_trial: told of every recipe as it was tried.

    Raises:
        QuantizationError: a library is missing or cannot take the network, or it has answers that are not finite.
    """
    options = options or QuantizeOptions()
    batches = calibration_batches(data, options)
    judge = Judge(network, data, options.judges, options.batch)
    scaled = balance_chains(network, batches) if options.balance else network
    session = quantizer.open(scaled, batches)
    example = data.normalise(data.train.images(torch.zeros(options.batch, dtype=torch.int64)))
    try:
        artefact, trials = choose_recipe(quantizer, session, judge, example, options, on_trial)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise QuantizationError(f"{quantizer.name} cannot quantize this network: {first_line(error)}") from error
    if trials[-1].verdict.divergence != trials[-1].verdict.divergence:
        raise QuantizationError("quantizing takes a network whose answers are finite; got some that are not")
    return Quantized(session.write_float(), artefact, trials)


def calibration_batches(data: ImageData, options: QuantizeOptions) -> list[Tensor]:
    """Normalised training images (n, C, H, W), none of them held out; a single one left over is not used."""
    count = min(options.images, len(data.train))
    index = torch.split(torch.arange(count), options.batch)
    return [data.normalise(data.train.images(part)) for part in index if len(part) > 1 or len(index) == 1]


def measure_artefacts(
    networks: Mapping[str, Quantized],
    data: ImageData,
    quantizer: Quantizer,
    *,
    batches: Sequence[int] = (1,),
    threads: int = 1,
    seconds: float = 2.0,
    scoring_batch: int = 250,
) -> tuple[Row, ...]:
    """Accuracy on the test images, which are read here and nowhere else, bytes and times of networks in both formats.

    All of them run on the engine that the quantizer is for, times are taken in turns, and drops are those against the
    first network in float32.

    Args:
        networks: by name, the one that all are compared with first.
        data: the images.
        quantizer: that they were quantized by.
        batches: to time.
        threads: to time with.
        seconds: for the timing of each network at each batch.
        scoring_batch: test images of a pass.
    """
    found = _files(networks)
    times = time_artefacts(networks, data, quantizer, batches=batches, threads=threads, seconds=seconds)
    ready = _ready(networks, data, quantizer, scoring_batch, threads)
    scores = [
        score_images(
            OnEngine(prepared, scoring_batch), data.test, data.normalise,
            execution=Execution(device="cpu"), batch_size=scoring_batch,
        )
        for prepared in ready
    ]  # fmt: skip
    return tuple(
        Row(
            name,
            precision,
            score.value,
            100 * (scores[0].value - score.value),
            drop_interval(scores[0], score),
            artefact.bytes,
            milliseconds,
        )
        for (name, precision, artefact), score, milliseconds in zip(found, scores, times, strict=True)
    )


def time_artefacts(
    networks: Mapping[str, Quantized],
    data: ImageData,
    quantizer: Quantizer,
    *,
    batches: Sequence[int] = (1,),
    threads: int = 1,
    seconds: float = 2.0,
) -> tuple[Mapping[int, float], ...]:
    """Median milliseconds of a pass by batch, of each network in float32 and then in 8 bits; all take turns.

    Args are those of :func:`measure_artefacts`; the inputs are training images.
    """
    times: tuple[dict[int, float], ...] = tuple({} for _ in _files(networks))
    for batch in batches:
        ready = _ready(networks, data, quantizer, batch, threads)
        passes = {str(number): prepared.once for number, prepared in enumerate(ready)}
        for number, timing in time_interleaved(passes, seconds=seconds).items():
            times[int(number)][batch] = timing.median
    return times


def _files(networks: Mapping[str, Quantized]) -> list[tuple[str, Literal["float32", "int8"], Artefact]]:
    """The order of the rows."""
    found: list[tuple[str, Literal["float32", "int8"], Artefact]] = []
    for name, network in networks.items():
        found += [(name, "float32", network.plain), (name, "int8", network.artefact)]
    return found


def _ready(
    networks: Mapping[str, Quantized], data: ImageData, quantizer: Quantizer, batch: int, threads: int
) -> list[Prepared]:
    example = data.normalise(data.train.images(torch.arange(batch) % len(data.train)))
    return [
        quantizer.prepare(artefact, example, Conditions(batch, threads, precision))
        for _, precision, artefact in _files(networks)
    ]
