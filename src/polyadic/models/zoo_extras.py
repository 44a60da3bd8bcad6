"""Networks of torchvision and timm by name, untrained; both are optional and imported on first use only."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from polyadic.errors import LayerError

Shape = tuple[int, int, int]


def build_torchvision(name: str, classes: int | None) -> tuple[nn.Module, Shape | None]:
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


def build_timm(name: str, classes: int | None) -> tuple[nn.Module, Shape | None]:
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
            f"'{package}:' models need {package}; the module '{error.name}' is not installed: pip install polyadic[zoo]"
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
