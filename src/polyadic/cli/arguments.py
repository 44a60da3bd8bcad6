"""What the commands share: how models and data are named, how numbers are given, how errors leave."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, cast

import torch
import typer
from rich.console import Console
from torch import Tensor

from polyadic.data import ImageData, load_data
from polyadic.engines import (
    ENGINES,
    Conditions,
    LatencyCache,
    LatencyModel,
    NumberFormat,
    default_latency_directory,
    engine_named,
)
from polyadic.errors import LayerError, PolyadicError
from polyadic.models import LIBRARIES, LoadedModel, load_model
from polyadic.search import SEARCHES, RankSearch, search_named
from polyadic.training import LAYER_TUNING, NETWORK_TUNING, ImageTask, augmentation_for

console = Console(stderr=True)

Model = Annotated[
    str, typer.Argument(help="polyadic:NAME, torchvision:NAME, timm:NAME, module:factory or file.py:factory")
]
Weights = Annotated[Path | None, typer.Option(help="safetensors, or a torch file with a plain state dict")]
Data = Annotated[str, typer.Option(help="digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR or module:factory")]
Mean = Annotated[str | None, typer.Option(help="per-channel mean of pixels in 0..1, such as 0.485,0.456,0.406")]
Std = Annotated[str | None, typer.Option(help="per-channel standard deviation")]
Seed = Annotated[int, typer.Option(help="same seed, same factors, same plan")]
Formats = Annotated[str, typer.Option(help="formats to choose from, separated by commas")]
Exclude = Annotated[list[str] | None, typer.Option(help="layer, or pattern with *, to leave dense (repeatable)")]
HeldOut = Annotated[int | None, typer.Option(help="training images held out to choose ranks")]
InputShape = Annotated[str | None, typer.Option(help="size of one input, such as 3,224,224")]
ForSize = Annotated[str | None, typer.Option(help="as in compress; here only for the size of an image")]
MaxDrop = Annotated[
    str | None,
    typer.Option(
        help="accuracy that may be lost: points (0.5 = half a percent), or a share of the dense one (0.5%)",
        metavar="POINTS",
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        help="what the network may cost: macs=50%, params=200k, bytes=1MB, latency=2ms, macs=2x (repeatable)",
        metavar="NAME=LIMIT",
    ),
]
Search = Annotated[str | None, typer.Option(help=f"how formats and ranks are found: {', '.join(SEARCHES)}")]
FinetuneEpochs = Annotated[int, typer.Option(help="epochs for the whole network; 0 = none")]
FinetuneRate = Annotated[float, typer.Option(help="learning rate of these epochs at its highest; cosine to 0")]
FreezeStatistics = Annotated[
    bool, typer.Option(help="leave batch-norm statistics as they are: forgets less, learns less")
]
MixImages = Annotated[bool, typer.Option(help="train on mixtures of two images, taught by the dense network")]
Trials = Annotated[int | None, typer.Option(help="most trials of the search")]
Timeout = Annotated[float | None, typer.Option(help="seconds after which the search ends", metavar="SECONDS")]
RoundTo = Annotated[
    int | None, typer.Option(help="round ranks to multiples of this, where there are any; by default 8 with --engine")
]
OnEngine = Annotated[
    str | None, typer.Option("--engine", help=f"where the network is to be fast: {', '.join(ENGINES)}")
]
Batch = Annotated[int | None, typer.Option(help="samples of a pass on the engine (1)")]
Threads = Annotated[int | None, typer.Option(help="of the engine; as many as torch takes when absent")]
Precision = Annotated[str | None, typer.Option(help="number format on the engine (float32): bfloat16, float16")]
RequireSpeedup = Annotated[
    bool,
    typer.Option(
        "--require-speedup/--no-require-speedup",
        help="replace layers only by what is measurably faster on the engine, or by what is smaller, too",
    ),
]
LatencyDir = Annotated[Path | None, typer.Option(help="where measured times are kept")]
Eps = Annotated[
    float | None,
    typer.Option(help="points that a single layer may lose; by default its share of what the network may lose"),
]
Recoverable = Annotated[float, typer.Option(help="times max-drop that may be lost before fine-tuning")]
DataAware = Annotated[
    bool, typer.Option("--data-aware/--plain-norm", help="decompose in the norm of each layer's inputs, or not")
]
Storage = Annotated[
    str | None, typer.Option(help="study that several workers share: sqlite:///FILE, postgresql://..., journal:///FILE")
]
CacheDir = Annotated[Path | None, typer.Option(help="where factored kernels are kept")]
Watch = Annotated[bool, typer.Option("--live", help="show the best plans and the last trials as they come")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object on the last line of stdout")]

Arguments = ParamSpec("Arguments")


def reported(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn errors raised on purpose into one sentence on stderr and exit status 1; Ctrl-C into status 130."""

    @wraps(command)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PolyadicError as error:
            console.print("[bold red]error:[/]", end=" ")
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            console.print("interrupted: what was finished is kept; go on with --resume")
            raise typer.Exit(130) from error

    return wrapper


def numbers(text: str | None, what: str) -> tuple[float, ...] | None:
    """Read "0.5,0.5" as (0.5, 0.5).

    Raises:
        PolyadicError: something in it is not a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise PolyadicError(f"{what} is a list of numbers separated by commas; got {text!r}") from error


def whole_numbers(text: str, what: str) -> tuple[int, ...]:
    """Read "40,33,64" as (40, 33, 64).

    Raises:
        PolyadicError: something in it is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise PolyadicError(f"{what} is a whole number, or several separated by commas; got {text!r}") from error


def data_of(text: str, mean: str | None, std: str | None, seed: int, held_out: int | None = None) -> ImageData:
    """The images that ``--data`` names."""
    return load_data(text, mean=numbers(mean, "--mean"), std=numbers(std, "--std"), held_out=held_out, seed=seed)


def model_of(text: str, weights: Path | None, data: ImageData | None) -> tuple[LoadedModel, int | None]:
    """The network that MODEL names, with as many classes as the data has, and that number where it was passed on."""
    # a factory decides its number of classes itself
    classes = data.classes if data is not None and text.startswith(LIBRARIES) else None
    return load_model(text, weights=weights, classes=classes), classes


def image_task(
    images: ImageData,
    seed: int,
    epochs: int,
    rate: float = NETWORK_TUNING.learning_rate,
    *,
    frozen: bool = NETWORK_TUNING.freeze_statistics,
    mixing: bool = NETWORK_TUNING.mixing,
) -> ImageTask:
    """The task of the command line: augmentation as the images allow, the rest by default.

    Args:
        images: to train and score on.
        seed: of the fine-tuning.
        epochs: of the whole network.
        rate: of the whole network.
        frozen: whether batch-norm statistics stay.
        mixing: whether training images are mixed.

    Raises:
        PolyadicError: a negative number of epochs, a rate that is not above 0.
    """
    if epochs < 0:
        raise PolyadicError(f"--finetune-epochs is 0 or more; got {epochs}")
    known = replace(NETWORK_TUNING, augmentation=augmentation_for(images), seed=seed)
    network = replace(known, epochs=max(epochs, 1), learning_rate=rate, freeze_statistics=frozen, mixing=mixing)
    layer = replace(LAYER_TUNING, augmentation=known.augmentation, seed=seed)
    return ImageTask(images, layer, network if epochs else None)


def names_of(formats: str) -> tuple[str, ...]:
    """Read "cp-epc, svd" as names."""
    return tuple(name.strip() for name in formats.split(",") if name.strip())


def search_of(name: str | None, seed: int) -> RankSearch | None:
    """The search of that name, with ``seed`` where it takes one; None leaves the choice to what is asked.

    Raises:
        PolyadicError: no search has that name.
    """
    if name is None:
        return None
    seeded = name in SEARCHES and "seed" in getattr(SEARCHES[name], "__dataclass_fields__", {})
    return search_named(name, seed=seed) if seeded else search_named(name)


def latency_of(
    engine: str | None, batch: int | None, threads: int | None, precision: str | None, directory: Path | None
) -> LatencyModel | None:
    """Who takes the times; None where no engine is named.

    Raises:
        EngineError: no engine has that name, or numbers out of range.
        PolyadicError: conditions, and no engine.
    """
    if engine is None:
        given = {"--batch": batch, "--threads": threads, "--precision": precision, "--latency-dir": directory}
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise PolyadicError(
                f"{', '.join(named)} belong to an engine: name one (--engine onnxruntime), or none of them"
            )
        return None
    usual = Conditions(threads=torch.get_num_threads())
    conditions = Conditions(
        usual.batch if batch is None else batch,
        usual.threads if threads is None else threads,
        usual.precision if precision is None else cast(NumberFormat, precision),
    )
    return LatencyModel(engine_named(engine), conditions, LatencyCache(directory or default_latency_directory()))


def example_of(loaded: LoadedModel, images: ImageData | None, input_shape: str | None) -> Tensor:
    """One input of zeros (1, ...): as large as ``--input-shape`` says, else as the images, else as the model's name.

    Raises:
        PolyadicError: sizes that are none.
        LayerError: nobody knows the size.
    """
    if input_shape is not None:
        given = whole_numbers(input_shape, "--input-shape")
        if min(given) < 1:
            raise LayerError(f"--input-shape is a list of sizes from 1 up, such as 3,224,224; got {input_shape!r}")
        return torch.zeros(1, *given)
    shape = images.image_shape if images is not None else loaded.input_shape
    if shape is None:
        raise LayerError(
            f"taking {loaded.source!r} apart needs the size of an input: give --input-shape C,H,W or --data"
        )
    return torch.zeros(1, *shape)


def command_line() -> str:
    """The command as it was given, to be kept with what it made; passwords in addresses are left out."""
    words = (re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", word) for word in sys.argv[1:])
    return shlex.join(["polyadic", *words])


def emit(document: dict[str, Any]) -> None:
    """Print one JSON object on the last line of stdout."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
