"""A large kernel does not need a large machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ORDER_3 = """
import resource, torch
from polyadic.decomposition import BoundedOptions, EPCOptions, RidgeOptions, StableOptions
from polyadic.formats import CPFormat
from polyadic.schema import ConvSpec

torch.set_num_threads(1)
stable = StableOptions(
    ridge=RidgeOptions(strongest=1e-3, weakest=1e-3, max_sweeps=3),
    fit=BoundedOptions(max_sweeps=1),
    epc=EPCOptions(error_slack=0.01, max_sweeps=2),
)
few_sweeps = CPFormat("cp-epc", stable=stable)
small, spec = (ConvSpec(S, S, (3, 3), (1, 1), (1, 1), (1, 1)) for S in (16, CHANNELS))
few_sweeps.factorise(torch.randn(small.weight_shape), small, (8,))  # libraries are loaded
kernel = torch.randn(spec.weight_shape)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few_sweeps.factorise(kernel, spec, (RANK,))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

ORDER_4 = """
import resource, torch
from polyadic.decomposition import ALSOptions, LMOptions, cp_als, cp_lm

torch.set_num_threads(1)


def few_steps(K, R):
    cp_als(K, R, ALSOptions(max_sweeps=2, tolerance=-1.0))
    cp_lm(K, R, LMOptions(max_steps=1, inner_steps=2))


few_steps(torch.randn(3, 3, 16, 16, dtype=torch.float64), 8)
kernel = torch.randn(3, 3, CHANNELS, CHANNELS, dtype=torch.float64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few_steps(kernel, RANK)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth_in_bytes(program: str, channels: int, rank: int) -> int:
    program = program.replace("CHANNELS", str(channels)).replace("RANK", str(rank))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB only on Linux")


@pytest.mark.parametrize(("channels", "rank"), [(160, 100), pytest.param(512, 500, marks=pytest.mark.slow)])
def test_a_large_kernel_takes_less_than_56_times_itself(channels: int, rank: int) -> None:
    """Of 512 x 512 x 3 x 3 in float64 that is a gigabyte."""
    assert growth_in_bytes(ORDER_3, channels, rank) < 56 * 8 * 9 * channels**2


@pytest.mark.parametrize(("channels", "rank"), [(160, 20), pytest.param(512, 64, marks=pytest.mark.slow)])
def test_a_large_kernel_of_order_4_takes_a_small_multiple_of_itself(channels: int, rank: int) -> None:
    """For 512 channels at rank 64 the Jacobian of a damped step alone would hold 10^11 numbers."""
    assert growth_in_bytes(ORDER_4, channels, rank) < 8 * 8 * 9 * channels**2
