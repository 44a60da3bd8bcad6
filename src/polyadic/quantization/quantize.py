"""Networks to 8 bits and measured: ranges from what trains, recipes from what is held out, the rest read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from polyadic.data import ImageData
from polyadic.engines import Conditions, Prepared, first_line, time_interleaved
from polyadic.errors import QuantizationError
from polyadic.quantization.balance import balance_chains
from polyadic.quantization.choose import RecipeTrial, choose_recipe
from polyadic.quantization.judges import OnEngine
from polyadic.quantization.material import SampleMaterial, material_of
from polyadic.quantization.onnx_runtime import OnnxRuntimeQuantizer
from polyadic.quantization.open_vino import OpenVinoQuantizer
from polyadic.quantization.quantizer import Artefact, QuantizeOptions, Quantizer
from polyadic.quantization.torch_ao import TorchAOQuantizer
from polyadic.training import SampleTask, drop_interval, score_images
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


@dataclass(frozen=True)
class SampleRow:
    """One network as the table shows it, measured on samples.

    Attributes:
        name: of the network, such as "compressed".
        precision: "float32" or "int8".
        score: the metric, or what is kept of the outputs of the task's dense network, on samples that chose nothing.
        drop: what is lost of it against the first row, in the unit of drops.
        bytes: of its files.
        milliseconds: median time of a pass, by batch.
    """

    name: str
    precision: str
    score: float
    drop: float
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
    data: ImageData | SampleTask,
    quantizer: Quantizer,
    options: QuantizeOptions | None = None,
    *,
    on_trial: Callable[[RecipeTrial], None] = lambda trial: None,
) -> Quantized:
    """``network`` in 8 bits; it is left as it was.

    Training images give ranges, held-out training images choose the recipe; the test images are not touched. Of samples
    those that teach give ranges, those that are held out choose by the outputs, and the last ones are not touched.

    Args:
        network: maps normalised images to logits; of samples, one tensor to anything.
        data: the images that it was trained on, or samples of what it takes.
        quantizer: for the engine that is to run it.
        options: see :class:`QuantizeOptions`.
        on_trial: told of every recipe as it was tried.

    Raises:
        QuantizationError: a library is missing or cannot take the network, or it has answers that are not finite.
    """
    options = options or QuantizeOptions()
    material = material_of(data)
    batches, judge = material.calibration_batches(options), material.judge(network, options)
    scaled = balance_chains(network, batches) if options.balance else network
    session = quantizer.open(scaled, batches)
    example = material.inputs(material.batch(options))
    try:
        artefact, trials = choose_recipe(quantizer, session, judge, example, options, on_trial)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise QuantizationError(f"{quantizer.name} cannot quantize this network: {first_line(error)}") from error
    if trials[-1].verdict.divergence != trials[-1].verdict.divergence:
        raise QuantizationError("quantizing takes a network whose answers are finite; got some that are not")
    return Quantized(session.write_float(), artefact, trials)


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


def measure_on_samples(
    networks: Mapping[str, Quantized],
    task: SampleTask,
    quantizer: Quantizer,
    *,
    batches: Sequence[int] = (1,),
    threads: int = 1,
    seconds: float = 2.0,
) -> tuple[SampleRow, ...]:
    """The same on samples: the metric of ``task``, or what is kept of the outputs of its dense network.

    Args are those of :func:`measure_artefacts`.

    Raises:
        QuantizationError: the metric asks for other inputs than the samples.
    """
    found = _files(networks)
    times = time_artefacts(networks, task, quantizer, batches=batches, threads=threads, seconds=seconds)
    batch = SampleMaterial(task).batch(QuantizeOptions())
    engines = [OnEngine(prepared, batch) for prepared in _ready(networks, task, quantizer, batch, threads)]
    try:
        scores = task.final_scores(engines).values
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise QuantizationError(
            f"the score of networks in files is taken with inputs as large as the samples, and what they return is a "
            f"tensor or a tuple; {task.score_name} failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    return tuple(
        SampleRow(name, precision, score, task.words.drop(scores[0], score), artefact.bytes, milliseconds)
        for (name, precision, artefact), score, milliseconds in zip(found, scores, times, strict=True)
    )


def time_artefacts(
    networks: Mapping[str, Quantized],
    data: ImageData | SampleTask,
    quantizer: Quantizer,
    *,
    batches: Sequence[int] = (1,),
    threads: int = 1,
    seconds: float = 2.0,
) -> tuple[Mapping[int, float], ...]:
    """Median milliseconds of a pass by batch, of each network in float32 and then in 8 bits; all take turns.

    Args are those of :func:`measure_artefacts`; the inputs are training images, or samples.
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
    networks: Mapping[str, Quantized], data: ImageData | SampleTask, quantizer: Quantizer, batch: int, threads: int
) -> list[Prepared]:
    example = material_of(data).inputs(batch)
    return [
        quantizer.prepare(artefact, example, Conditions(batch, threads, precision))
        for _, precision, artefact in _files(networks)
    ]
