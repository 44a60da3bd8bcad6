"""The options that name a network and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import typer

from polyadic.cli.screen import console
from polyadic.data import ImageData
from polyadic.errors import LayerError, PolyadicError
from polyadic.export import Origin
from polyadic.models import LIBRARIES, LoadedModel, load_model


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """A network, and its weights."""

    panel: ClassVar[str] = "Model"
    model: Annotated[
        str, typer.Argument(help="polyadic:NAME, torchvision:NAME, timm:NAME, module:factory or file.py:factory")
    ]
    weights: Annotated[Path | None, typer.Option(help="safetensors, or a torch file with a plain state dict")] = None

    def load(self, images: ImageData | None) -> tuple[LoadedModel, Origin]:
        """The network, with as many classes as the data has, and where it comes from."""
        # a factory decides its number of classes itself
        classes = images.classes if images is not None and self.model.startswith(LIBRARIES) else None
        loaded = load_model(self.model, weights=self.weights, classes=classes)
        kinds = {tensor.dtype for tensor in loaded.model.parameters() if tensor.is_floating_point()}
        if kinds and torch.float32 not in kinds:
            raise LayerError(
                f"commands give networks float32 inputs; the weights of {self.model} are "
                f"{', '.join(sorted(str(kind).removeprefix('torch.') for kind in kinds))}: let its factory return "
                "model.float(); --precision is the number format on an engine"
            )
        for note in loaded.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        if images is None:
            return loaded, Origin(self.model, classes, input_shape=loaded.input_shape)
        return loaded, Origin(self.model, classes, images.mean, images.std, tuple(images.image_shape))


Untrained = Annotated[bool, typer.Option("--untrained", help="take a network of a library with random weights")]


@dataclass(frozen=True, kw_only=True)
class TrainedModelArguments(ModelArguments):
    """A network whose weights matter: one of a library comes with a file of them."""

    untrained: Untrained = False

    def load(self, images: ImageData | None) -> tuple[LoadedModel, Origin]:
        """The network and where it comes from.

        Raises:
            PolyadicError: a library's network without weights, which is not asked for.
        """
        require_weights(self.model, self.weights, untrained=self.untrained)
        return super().load(images)


def require_weights(model: str, weights: Path | None, *, untrained: bool) -> None:
    """Refuse a library's network with random weights, unless ``untrained`` asks for it; a factory loads its own.

    Raises:
        PolyadicError: it has no weights, or was asked for without any and has some.
    """
    if untrained and (weights is not None or not model.startswith(LIBRARIES)):
        what = f"those of {weights}" if weights is not None else "those of its factory"
        raise PolyadicError(f"--untrained takes {model} with random weights, and it has {what}: leave out one of them")
    if weights is None and not untrained and model.startswith(LIBRARIES):
        raise PolyadicError(
            f"{model} is built with random weights, and none were given: name the file of its trained ones with "
            "--weights, or say --untrained where random weights are meant"
        )
