"""Every test runs on one core and draws the same examples every time; trained kernels are skipped where absent."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from safetensors.torch import load_file
from torch import Tensor

from polyadic.algebra import kernel_to_order3

_DATA = Path(os.environ.get("POLYADIC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

settings.register_profile("polyadic", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("polyadic")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def resnet56_kernel() -> Callable[[str], Tensor]:
    """Return a function from a layer's name to its trained kernel (D^2 x S x T, float32)."""
    path = _DATA / "resnet56_cifar10.safetensors"
    if not path.is_file():
        pytest.skip(f"no trained kernels: '{path}' does not exist (set POLYADIC_DATA)")
    weights = load_file(path)
    return lambda layer: kernel_to_order3(weights[f"{layer}.weight"])
