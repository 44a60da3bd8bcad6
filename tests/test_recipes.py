"""Each recipe of ``examples/`` runs as it stands, and writes a folder that holds its network with its true score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    "accelerate_loop": "accelerate",
    "hugging_face_trainer": "transformers",
    "lightning_loop": "pytorch_lightning",
    "plain_torch": "torch",
    "rebuilt_from_config": "torch",
}
"""What each is about, and the package that it takes."""

SCORE_AGAIN = """
import copy, runpy, sys
known = runpy.run_path(sys.argv[1])
import polyadic
model, score = known["model"], known["score"]
network = polyadic.load("runs/mine", copy.deepcopy(model))
untrained = polyadic.apply_plan(model, polyadic.load_plan("runs/mine")).model
print(*(float(score(one)) for one in (untrained, network, model)))
"""


def test_every_example_is_run() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_saves_what_it_has_trained_with_its_true_score(tmp_path: Path, name: str) -> None:
    if find_spec(EXAMPLES[name]) is None:
        pytest.skip(f"{EXAMPLES[name]} is not installed")
    command = [sys.executable, "-c", SCORE_AGAIN, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    untrained, compressed, dense = map(float, done.stdout.splitlines()[-1].split())
    known = json.loads((tmp_path / "runs" / "mine" / "result.json").read_text())
    assert known["compressed"]["score"] == pytest.approx(compressed, abs=1e-5)
    assert known["dense"]["score"] == pytest.approx(dense, abs=1e-5)
    assert known["provenance"]["finetuning_stop"] == "trained in a loop of the user's own"
    assert known["mac_reduction"] > 1.4
    assert untrained < compressed <= dense
    assert known["warnings"] == []
