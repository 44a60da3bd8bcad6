"""Networks of torchvision and timm, untrained and without anything fetched from the network."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

import torch
from torch import nn

_SCHEMAS: list[torch.library.Library] = []  # they live as long as the library object


def missing(*packages: str) -> str | None:
    """Why networks of these packages cannot be built; None if they can."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed: pip install polyadic[zoo]" if absent else None


def torchvision_models() -> ModuleType:
    """``torchvision.models``, also where a torchvision for CUDA stands beside a torch for the CPU.

    Such a torchvision cannot load its operators, and its import fails for want of their schemas. With the schemas
    defined its networks can be built and run, as far as they do without the operators.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            schemas = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for operator in ("nms", "qnms"):
                schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                schemas.define(schema)  # type: ignore[no-untyped-call]
            _SCHEMAS.append(schemas)
        return importlib.import_module("torchvision.models")


def torchvision_network(name: str, **options: object) -> nn.Module:
    """The network ``name`` of any of torchvision's model families."""
    models = torchvision_models()
    if "weights_backbone" in options or name.startswith(("fcn", "deeplab", "lraspp")):
        options = {"weights_backbone": None, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old initialisations that are slow
        network: nn.Module = models.get_model(name, weights=None, **options)
    return network


def timm_network(name: str) -> nn.Module:
    """The network ``name`` of timm."""
    torchvision_models()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = importlib.import_module("timm").create_model(name, pretrained=False)
    return network
