"""What commands work on that take a folder of a result as well as a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from torch import nn

from polyadic.cli.model_arguments import ModelArguments, Untrained, require_weights
from polyadic.data import ImageData
from polyadic.errors import LayerError, PolyadicError
from polyadic.export import Origin, load, origin_of, read_plan
from polyadic.models import LIBRARIES, LoadedModel, load_model

TrustCode = Annotated[bool, typer.Option("--trust-code", help="run the code that a result in DIR names")]


@dataclass(frozen=True, kw_only=True)
class ModelOrResultArguments:
    """A folder of a result, or a model and its weights."""

    panel: ClassVar[str] = "Model"
    target: Annotated[str, typer.Argument(metavar="DIR|MODEL", help="folder of a result, or a model as in compress")]
    weights: Annotated[Path | None, typer.Option(help="of a MODEL; as in compress")] = None
    trust_code: TrustCode = False

    def read(self) -> ModelOrResult:
        """What is known of it before it is loaded."""
        return ModelOrResult.named(self.target, trust_code=self.trust_code, weights=self.weights)


@dataclass(frozen=True, kw_only=True)
class TrainedModelOrResultArguments(ModelOrResultArguments):
    """A folder of a result, or a model whose weights matter."""

    untrained: Untrained = False

    def read(self) -> ModelOrResult:
        """What is known of it before it is loaded.

        Raises:
            PolyadicError: a library's network without weights, which is not asked for.
        """
        named = super().read()
        if named.plan is None:
            require_weights(self.target, self.weights, untrained=self.untrained)
        elif self.untrained:
            raise PolyadicError(f"{self.target} holds its own weights: leave out --untrained")
        return named


@dataclass(frozen=True)
class ModelOrResult:
    """A folder of a result, or the text of a model.

    Attributes:
        text: as it stands on the command line.
        weights: of a model.
        trust_code: whether code that a folder names may run.
        plan: the content of the folder's ``plan.json``; None for a model.
        origin: where the network comes from and what it takes, as far as that is known before it is loaded.
    """

    text: str
    weights: Path | None
    trust_code: bool
    plan: dict[str, Any] | None
    origin: Origin

    @classmethod
    def named(cls, text: str, *, trust_code: bool, weights: Path | None = None) -> ModelOrResult:
        """What ``text`` names; a folder holds its own weights.

        Raises:
            PolyadicError: weights for a folder.
            StorageError: the folder's plan is missing or damaged.
        """
        if not Path(text).is_dir():
            return cls(text, weights, trust_code, None, Origin(text))
        if weights is not None:
            raise PolyadicError(f"{text} holds its own weights: leave out --weights")
        plan = read_plan(Path(text))
        return cls(text, None, trust_code, plan, origin_of(plan))

    def load(self, images: ImageData | None = None) -> tuple[LoadedModel, Origin]:
        """The network and where it comes from; a model of a library gets as many classes as the images have."""
        if self.plan is None:
            return ModelArguments(model=self.text, weights=self.weights).load(images)
        return LoadedModel(load(self.text, trust_code=self.trust_code), self.text, self.origin.input_shape), self.origin

    def dense(self, weights: Path | None = None) -> nn.Module:
        """The dense network of a folder, untrained where no weights are given.

        Raises:
            LayerError: the folder does not name it, or names code that is not trusted.
        """
        model = self.origin.model
        if model is None:
            raise LayerError(
                f"{self.text} does not say how its dense network is built: give that network as a MODEL, or leave out "
                "what compares with it"
            )
        if not self.trust_code and not model.startswith(LIBRARIES):
            raise LayerError(
                f"{self.text} is built by code of its own, {model!r}, which is not run unasked: --trust-code says that "
                "it may run"
            )
        return load_model(model, weights=weights, classes=self.origin.classes).model
