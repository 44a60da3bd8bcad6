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
from results import CHAINS, TRAINS, Mixed, Small, compressed, decomposed, images, mixed, small
from torch import nn

from polyadic.export import save
from polyadic.pipeline import CompressionResult
from polyadic.surgery import LayerMap


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


@pytest.mark.parametrize("layers", [TRAINS, CHAINS], ids=["trains", "chains"])
def test_tensor_trains_and_transposed_layers_become_plain_layers(
    tmp_path: Path, layers: LayerMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = decomposed(layers, torch.float64)
    save(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"dense": mixed(seed=5).double()}
    exec(blocks(tmp_path)[1].replace("model = ...", "model = dense"), names)
    model = names["model"]
    assert isinstance(model, Mixed)
    assert {type(module).__module__.split(".")[0] for module in model.modules()} == {"torch", "results"}
    x = images().double()
    torch.testing.assert_close(model(x), made.model(x), rtol=0.0, atol=1e-12)
    assert model.first is model.again[0]


def test_the_part_for_tensor_trains_stands_there_only_if_there_are_any(tmp_path: Path) -> None:
    for layers in (TRAINS, CHAINS):
        save(decomposed(layers), tmp_path)
        text = (tmp_path / "README.md").read_text()
        for words in ("def kernel", ".cores.", "import torch\n", "tensor trains multiplied out"):
            assert (words in text) == (layers is TRAINS)
        assert len(blocks(tmp_path)[1].splitlines()) < 40


def test_tensor_trains_run_where_polyadic_is_not_installed(tmp_path: Path) -> None:
    made = decomposed(TRAINS, torch.float64)
    save(made, tmp_path)
    x = images().double()
    torch.save((mixed(seed=5).double(), x, made.model(x).detach()), tmp_path / "known.pt")
    assert printed(
        tmp_path,
        Mixed,
        "dense, x, y = torch.load('known.pt', weights_only=False)\n"
        + blocks(tmp_path)[1].replace("model = ...", "model = dense")
        + "\ntorch.testing.assert_close(model(x), y, rtol=0.0, atol=1e-12)\nprint('same')\n",
    ) == ("same", "")


def test_it_runs_where_polyadic_is_not_installed(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    torch.save(small(seed=5), tmp_path / "dense.pt")
    torch.save((images(), result.model(images()).detach()), tmp_path / "expected.pt")
    assert printed(
        tmp_path,
        Small,
        "x, y = torch.load('expected.pt')\n"
        + blocks(tmp_path)[1].replace("model = ...", "model = torch.load('dense.pt', weights_only=False)")
        + "\nassert torch.equal(model(x), y)\nprint('same')\n",
    ) == ("same", "")


def printed(folder: Path, network: type[nn.Module], code: str) -> tuple[str, str]:
    """What ``code`` prints in an interpreter that has torch and the class of the network, but no Polyadic."""
    source = "from torch import Tensor, nn\n" + inspect.getsource(network)
    script = (
        "import sys, torch\n"
        "sys.modules['polyadic'] = None\n"  # from here on an import of it is an error
        f"sys.modules['results'] = results = type(sys)('results')\n{source}\n"
        f"results.{network.__name__} = {network.__name__}\n{code}"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return ran.stdout.strip(), ran.stderr


def test_the_block_for_polyadic_names_what_has_to_be_given(tmp_path: Path, result: CompressionResult) -> None:
    save(result, tmp_path)
    first = blocks(tmp_path)[0]
    assert 'polyadic.load(".", model=...)' in first
    ast.parse(first)
