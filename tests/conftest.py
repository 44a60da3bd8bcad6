"""Every test runs on one core and draws the same examples every time; a few trained kernels are at hand.

``pytest --hypothesis-profile random`` draws other examples every time, and prints how to bring a failing one back.
"""

from __future__ import annotations

import os

# Before torch is imported: the processes of pytest-xdist, and those that a test starts, share the cores.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from safetensors.torch import load_file
from torch import Tensor

from polyadic.algebra import kernel_to_order3

_KERNELS = Path(__file__).parent / "fixtures" / "trained_kernels" / "resnet56_cifar10.safetensors"

settings.register_profile("fixed", deadline=None, derandomize=True, database=None, max_examples=25)
settings.register_profile("random", deadline=None, derandomize=False, database=None, max_examples=25, print_blob=True)
settings.load_profile("fixed")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def resnet56_kernel() -> Callable[[str], Tensor]:
    """Return a function from the name of one of three layers to its trained kernel (D^2 x S x T, float32)."""
    weights = load_file(_KERNELS)
    return lambda layer: kernel_to_order3(weights[f"{layer}.weight"])
