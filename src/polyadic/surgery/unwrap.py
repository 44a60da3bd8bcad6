"""The network inside of what people hold in their hands: wrappers for devices, averages and compilers, and trainers."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from polyadic.errors import LayerError
from polyadic.surgery.plain_layers import require_module

_WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)
_AVERAGES = {"ModelEma", "ModelEmaV2", "ModelEmaV3"}  # of timm


def unwrap_model(model: object) -> nn.Module:
    """The network that ``model`` wraps, and ``model`` itself where it is a network.

    Seen through are DataParallel, DistributedDataParallel, ``torch.compile(network)``, AveragedModel, the averages of
    timm and the ``YOLO`` of ultralytics. A LightningModule is a network where it has a forward pass.

    Raises:
        LayerError: it is no module, or one without a forward pass; says what to pass.
    """
    inner = _inside(model)
    if inner is not None:
        return unwrap_model(inner)
    network = require_module(model)
    if _has_no_forward(network):
        parts = [name for name, part in network.named_children() if not _has_no_forward(part)]
        advice = f", such as its .{parts[0]}" if parts else ""
        raise LayerError(f"{type(network).__name__} has no forward pass: pass the network that it holds{advice}")
    return network


def _inside(model: object) -> nn.Module | None:
    """What is directly under one wrapper; None without a wrapper."""
    kinds = type(model).__mro__
    attribute = None
    if isinstance(model, _WRAPPERS) or (type(model).__name__ in _AVERAGES and kinds[0].__module__.startswith("timm.")):
        attribute = "module"
    elif type(model).__name__ == "OptimizedModule":  # by name: importing torch._dynamo takes seconds
        attribute = "_orig_mod"
    elif any(kind.__module__ == "ultralytics.engine.model" for kind in kinds):
        attribute = "model"
    inner = getattr(model, attribute, None) if attribute else None
    return inner if isinstance(inner, nn.Module) else None


def _has_no_forward(model: nn.Module) -> bool:
    """Whether calling it would raise: its class inherits the forward of torch's, or Lightning's, bare module."""
    forward = getattr(type(model), "forward", None)  # a scripted module has none to be looked at
    package = str(getattr(forward, "__module__", "")).split(".")[0]
    return forward is nn.Module.forward or package in ("lightning", "pytorch_lightning")
