"""A part of ``benchmarks/kills.py``: commands that are killed at random moments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROGRAM = """
import json, sys
from pathlib import Path
import torch
import kills

torch.set_num_threads(1)
world = kills.build_world(Path(sys.argv[1]), ("compress", "finetune"))
done, _, wrong = kills.run(world, 4, 0, tell=lambda text: print(text, file=sys.stderr))
print(json.dumps([done, wrong]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="waits for processes as Linux does")
def test_killed_commands_end_as_if_undisturbed(tmp_path: Path) -> None:
    """In a process of its own, which has no threads when it forks."""
    path = os.pathsep.join([str(BENCHMARKS), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    done, wrong = json.loads(ran.stdout.splitlines()[-1])
    assert done >= 4
    assert wrong == [], ran.stderr
