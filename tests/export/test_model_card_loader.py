"""The code that the model card prints for people without Polyadic."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from results import Small, compressed, images, small

from polyadic.export import save
from polyadic.pipeline import CompressionResult


@pytest.fixture(scope="module")
def result() -> CompressionResult:
    return compressed()


def blocks(folder: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_loads_the_network_with_torch_and_safetensors_alone(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compressed()
    made.model.to(dtype)
    save(made, tmp_path)
    code = blocks(tmp_path)[1]
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    origins = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert {origin.split(".")[0] for origin in origins} == {"json", "pathlib", "safetensors", "torch"}
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"dense": small(seed=5).to(dtype)}
    exec(code.replace("model = ...", "model = dense"), names)  # as the card asks the reader to
    model = names["model"]
    assert isinstance(model, Small)
    x = images().to(dtype)
    assert torch.equal(model(x), made.model(x))
    assert model.second is model.twin["again"]


def test_it_runs_where_polyadic_is_not_installed(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    torch.save(small(seed=5), tmp_path / "dense.pt")
    torch.save((images(), result.model(images()).detach()), tmp_path / "expected.pt")
    script = (
        "import sys, torch\n"
        "sys.modules['polyadic'] = None\n"  # from here on an import of it is an error
        f"sys.modules['results'] = results = type(sys)('results')\n{class_source()}\nresults.Small = Small\n"
        "x, y = torch.load('expected.pt')\n"
        + blocks(tmp_path)[1].replace("model = ...", "model = torch.load('dense.pt', weights_only=False)")
        + "\nassert torch.equal(model(x), y)\nprint('same')\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "same", ran.stderr


def class_source() -> str:
    """Small, for an interpreter that has only torch."""
    return "from torch import Tensor, nn\n" + inspect.getsource(Small)


def test_the_block_for_polyadic_names_what_has_to_be_given(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    first = blocks(tmp_path)[0]
    assert 'polyadic.load(".", model=...)' in first
    ast.parse(first)
