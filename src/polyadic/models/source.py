"""A model from one line of text, as it stands on a command line or in a recipe."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from polyadic.errors import LayerError, install_hint
from polyadic.factory import call_factory
from polyadic.models.weights import load_weights
from polyadic.models.zoo import ZOO

LIBRARIES = ("polyadic:", "torchvision:", "timm:")
"""Beginnings of texts that name a known library's network; every other text names code of the user."""

_DEFAULT_CLASSES = 10


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode, the text it came from and, where known, the shape (C, H, W) of one input image.

    ``notes`` say what a reader must know of its weights, such as that they are averages.
    """

    model: nn.Module
    source: str
    input_shape: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


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
    notes = () if weights is None else load_weights(model, weights)
    return LoadedModel(model.eval(), text, shape, notes)


def _build(text: str, classes: int | None) -> tuple[nn.Module, tuple[int, ...] | None]:
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


def build_torchvision(name: str, classes: int | None) -> tuple[nn.Module, tuple[int, ...] | None]:
    """Build torchvision's classification network ``name`` with random weights; also its input shape (C, H, W).

    Raises LayerError when torchvision is missing or unusable, or has no such classification network.
    """
    models = _import_extra("torchvision.models", "torchvision")
    # Only the classification models: builders of the others fetch backbone weights from the network on their own.
    names = models.list_models(module=models)
    if name not in names:
        raise LayerError(_unknown("torchvision", name, names))
    options = {} if classes is None else {"num_classes": classes}
    network: nn.Module = models.get_model(name, weights=None, **options)
    size = int(models.get_model_weights(name).DEFAULT.transforms().crop_size[0])
    return network, (3, size, size)


def build_timm(name: str, classes: int | None) -> tuple[nn.Module, tuple[int, ...] | None]:
    """Build timm's network ``name`` with random weights; also its input shape (C, H, W) where timm states one.

    Raises LayerError when timm is missing or unusable, or has no such network.
    """
    timm = _import_extra("timm", "timm")
    # is_model refuses hub addresses ("hf-hub:..."), which create_model would fetch from the network.
    if not timm.is_model(name):
        raise LayerError(_unknown("timm", name, timm.list_models()))
    options = {} if classes is None else {"num_classes": classes}
    network: nn.Module = timm.create_model(name, pretrained=False, **options)
    size = getattr(network, "pretrained_cfg", {}).get("input_size")
    return network, None if size is None else (int(size[0]), int(size[1]), int(size[2]))


def _import_extra(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LayerError(
            f"'{package}:' models need {package}; the module '{error.name}' is not installed: {install_hint('zoo')}"
        ) from error
    except Exception as error:
        # A torchvision built for another torch fails with RuntimeError or OSError while its operators are registered.
        raise LayerError(
            f"'{package}:' models need a {package} that fits the installed torch; importing it failed "
            f"({type(error).__name__}: {error}): reinstall torch and {package} from the same index"
        ) from error


def _unknown(package: str, name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    advice = f"did you mean {' or '.join(close)}?" if close else f"choose one of its {len(names)} classification models"
    return f"{package} has no classification model '{name}': {advice}"
