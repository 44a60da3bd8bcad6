"""Polyadic: compression of trained convolutional networks by stable low-rank tensor decomposition.

Names are loaded when they are first used (PEP 562), so that ``import polyadic`` and the command line start at once.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyadic.errors import PolyadicError
    from polyadic.export import load, load_plan, save
    from polyadic.export.lightning_callback import lightning_callback
    from polyadic.pipeline import Applied, CompressionResult, CompressOptions, KnownScore, Progress
    from polyadic.pipeline.apply import apply_plan
    from polyadic.pipeline.compress import compress
    from polyadic.pipeline.estimate import estimate_cost
    from polyadic.pipeline.evaluate import evaluate
    from polyadic.pipeline.finetune import finetune
    from polyadic.pipeline.search import find_plan
    from polyadic.schema import Budget, Choice, Plan
    from polyadic.surgery import CP, CP4, SVD, TKDCPD, TT, SpatialSVD, TTMatrix, Tucker2, decompose_
    from polyadic.surgery.find_layers import find_layers
    from polyadic.surgery.fold_and_merge import fold_and_merge
    from polyadic.surgery.rebuild import merge
    from polyadic.training import Metric, SampleTask, distillation_loss

__all__ = [
    "CP",
    "CP4",
    "SVD",
    "TKDCPD",
    "TT",
    "Applied",
    "Budget",
    "Choice",
    "CompressOptions",
    "CompressionResult",
    "KnownScore",
    "Metric",
    "Plan",
    "PolyadicError",
    "Progress",
    "SampleTask",
    "SpatialSVD",
    "TTMatrix",
    "Tucker2",
    "apply_plan",
    "compress",
    "decompose_",
    "distillation_loss",
    "estimate_cost",
    "evaluate",
    "find_layers",
    "find_plan",
    "finetune",
    "fold_and_merge",
    "lightning_callback",
    "load",
    "load_plan",
    "merge",
    "save",
]

_MODULES = {
    "polyadic.errors": ("PolyadicError",),
    "polyadic.export": ("lightning_callback", "load", "load_plan", "save"),
    "polyadic.pipeline": (
        *("Applied", "CompressOptions", "CompressionResult", "KnownScore", "Progress"),
        *("apply_plan", "compress", "estimate_cost", "evaluate", "find_plan", "finetune"),
    ),
    "polyadic.schema": ("Budget", "Choice", "Plan"),
    "polyadic.surgery": (
        *("CP", "CP4", "SVD", "TKDCPD", "TT", "SpatialSVD", "TTMatrix", "Tucker2"),
        *("decompose_", "find_layers", "fold_and_merge", "merge"),
    ),
    "polyadic.training": ("Metric", "SampleTask", "distillation_loss"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, or a package of the library such as ``polyadic.layers``, loaded on first use."""
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
