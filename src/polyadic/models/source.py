"""A model from one line of text, as it stands on a command line or in a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.nn.parameter import is_lazy

from polyadic.errors import LayerError
from polyadic.factory import call_factory
from polyadic.models.weights import load_weights
from polyadic.models.zoo import ZOO
from polyadic.models.zoo_extras import build_timm, build_torchvision

LIBRARIES = ("polyadic:", "torchvision:", "timm:")
"""Beginnings of texts that name a known library's network; every other text names code of the user."""

_DEFAULT_CLASSES = 10


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode, the text it came from and, where known, the shape (C, H, W) of one input image."""

    model: nn.Module
    source: str
    input_shape: tuple[int, ...] | None


def load_model(text: str, weights: Path | None = None, classes: int | None = None) -> LoadedModel:
    """Build the network that ``text`` names, load ``weights`` into it if given, and set it to eval mode.

    ``text`` is one of::

        polyadic:NAME            a network of this library (see ZOO), 10 classes unless ``classes`` is given
        torchvision:NAME         a classification network of torchvision, untrained (extra: zoo)
        timm:NAME                a network of timm, untrained (extra: zoo)
        package.module:factory   a function without arguments that returns a torch.nn.Module
        path/file.py:factory     the same in a file of its own

    ``classes`` is the number of outputs; a factory decides that itself, so it may not be given there. No weights are
    ever fetched from the network. Raises LayerError for a text that names no model and for a model that cannot be
    built, DataError for a weights file that does not fit.
    """
    if classes is not None and classes < 1:
        raise LayerError(f"a classifier has at least 1 class; got classes={classes}: give the number of labels")
    model, shape = _build(text, classes)
    lazy = next((name for name, parameter in model.named_parameters() if is_lazy(parameter)), None)
    if lazy is not None:
        raise LayerError(
            f"every parameter must have its shape; '{lazy}' of '{text}' is lazy: run one batch through the model in "
            "its factory"
        )
    if weights is not None:
        load_weights(model, weights)
    return LoadedModel(model.eval(), text, shape)


def _build(text: str, classes: int | None) -> tuple[nn.Module, tuple[int, int, int] | None]:
    origin, _, name = text.partition(":")
    if origin == "polyadic":
        if name not in ZOO:
            raise LayerError(f"polyadic has no model '{name}': use one of {', '.join(ZOO)}")
        entry = ZOO[name]
        return entry.build(_DEFAULT_CLASSES if classes is None else classes), entry.input_shape
    if origin == "torchvision":
        return build_torchvision(name, classes)
    if origin == "timm":
        return build_timm(name, classes)
    if not origin or not name:
        raise LayerError(
            "a model is written polyadic:NAME, torchvision:NAME, timm:NAME, package.module:factory or file.py:factory; "
            f"got '{text}'"
        )
    if classes is not None:
        raise LayerError(
            f"a factory decides the number of classes itself; got classes={classes} with '{text}': leave classes out"
        )
    return _from_factory(text), None


def _from_factory(text: str) -> nn.Module:
    model = call_factory(text, "model", LayerError)
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise LayerError(f"'{text}' must return a torch.nn.Module; it returned a {kind}: return the network itself")
    return model
