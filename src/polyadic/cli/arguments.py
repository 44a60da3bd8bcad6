"""What the commands share: how models and data are named, how numbers are given, how errors leave."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console

from polyadic.data import ImageData, load_data
from polyadic.errors import PolyadicError
from polyadic.models import LIBRARIES, LoadedModel, load_model

console = Console(stderr=True)

Model = Annotated[
    str, typer.Argument(help="polyadic:NAME, torchvision:NAME, timm:NAME, module:factory or file.py:factory")
]
Weights = Annotated[Path | None, typer.Option(help="safetensors, or a torch file with a plain state dict")]
Data = Annotated[str, typer.Option(help="digits, npz:PREFIX, cifar10:DIR, imagefolder:DIR or module:factory")]
Mean = Annotated[str | None, typer.Option(help="per-channel mean of pixels in 0..1, such as 0.485,0.456,0.406")]
Std = Annotated[str | None, typer.Option(help="per-channel standard deviation")]
Seed = Annotated[int, typer.Option(help="same seed, same factors, same plan")]
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


def emit(document: dict[str, Any]) -> None:
    """Print one JSON object on the last line of stdout."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
