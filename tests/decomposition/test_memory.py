"""A large kernel does not need a large machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from polyadic.decomposition import EPCOptions, RidgeOptions, StableOptions
from polyadic.formats import CPFormat
from polyadic.schema import ConvSpec

torch.set_num_threads(1)
stable = StableOptions(RidgeOptions(strongest=1e-3, weakest=1e-3, max_sweeps=3), EPCOptions(max_sweeps=2))
few_sweeps = CPFormat("cp-epc", stable=stable)
small, spec = (ConvSpec(S, S, (3, 3), (1, 1), (1, 1), (1, 1)) for S in (16, 512))
few_sweeps.factorise(torch.randn(small.weight_shape), small, (8,))  # libraries are loaded
kernel = torch.randn(spec.weight_shape)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few_sweeps.factorise(kernel, spec, (500,))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB only on Linux")
def test_a_512_x_512_x_3_x_3_kernel_at_rank_500_takes_less_than_a_gigabyte() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 2**30
