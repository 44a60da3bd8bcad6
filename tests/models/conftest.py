"""Optional libraries and trained weights; a test that asks for one is skipped with a reason where it is absent."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    folder = Path(os.environ.get("POLYADIC_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no trained weights: '{folder}' does not exist (set POLYADIC_DATA)")
    return folder


@pytest.fixture(scope="session")
def torchvision_models() -> Iterator[Any]:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    library = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            # A CUDA wheel beside a CPU torch cannot load its operators; their schemas are enough to import its models.
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for operator in ("nms", "qnms"):
                schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                library.define(schema)  # type: ignore[no-untyped-call]
        yield importlib.import_module("torchvision.models")
    # The schemas live as long as the library object.
    del library


@pytest.fixture(scope="session")
def timm(torchvision_models: Any) -> Any:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("timm")
        except ImportError as error:
            pytest.skip(f"timm cannot be imported: {error}")
