from __future__ import annotations

from pathlib import Path

import pytest
from stage import World, assert_refused, last_json, run

ODD = """
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.deep = nn.Conv2d(4, 4, 3, groups=4)
        self.up = nn.ConvTranspose2d(4, 3, 3)
        self.normed = weight_norm(nn.Conv2d(3, 3, 1))
        self.rest = nn.Linear(7, 7)
    def forward(self, x):
        return self.normed(self.up(self.deep(self.conv(x)))).mean((2, 3))

def build():
    return Odd()

def broken():
    raise RuntimeError("no weights today")
"""


def test_json_names_every_layer_with_its_costs_and_its_fate(world: World) -> None:
    document = last_json(run("inspect", world.model, "--input-shape", "3,8,8", "--json"))
    assert document["model"] == world.model
    assert document["params"] == 16 * 27 + 32 + 16 * 16 * 9 + 16 + 32 + 256 * 3 + 3
    assert document["macs"] == 16 * 27 * 64 + 16 * 144 * 16 + 768
    assert [set(layer) for layer in document["layers"]] == [
        {"name", "kind", "status", "reason", "formats", "params", "macs", "weight_shape"}
    ] * 3
    first, _, head = document["layers"]
    assert (first["name"], first["kind"], first["params"], first["macs"]) == ("conv1", "Conv2d", 432, 27648)
    assert {"cp-epc", "cp-als", "cp-als-epc", "tucker2", "tkd-cpd-epc"} <= set(first["formats"])
    assert "svd" not in first["formats"]
    assert "svd" in head["formats"]
    assert (head["status"], head["reason"]) == ("supported", None)
    assert sum(layer["macs"] for layer in document["layers"]) == document["macs"]


def test_layers_that_no_format_serves_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    document = last_json(run("inspect", f"{tmp_path}/odd.py:build", "--input-shape", "3,9,9", "--json"))
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert {name for name, layer in layers.items() if layer["status"] == "supported"} == {"conv", "up", "normed"}
    for name, words in (("deep", "depthwise"), ("rest", "not run")):
        assert words in layers[name]["reason"]
        assert layers[name]["formats"] == []


@pytest.mark.parametrize("shape", [("--input-shape", "3,8,8"), ("--data",)])
def test_the_table_is_for_people(world: World, shape: tuple[str, ...]) -> None:
    result = run("inspect", world.model, *(shape if len(shape) == 2 else ("--data", world.data)))
    assert result.exit_code == 0
    assert "one input of 3 x 8 x 8" in result.stdout
    assert "3 of 3 layers supported" in result.stdout
    assert "conv1" in result.stdout


def test_a_network_of_the_library_knows_its_input() -> None:
    document = last_json(run("inspect", "polyadic:digits-cnn", "--json"))
    assert document["layers"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["polyadic:resnet21"], "polyadic has no model 'resnet21'"),
        (["nothing"], "a model is written"),
        (["absent.py:build"], "absent.py"),
        (["MODEL"], "give --input-shape C,H,W or --data"),
        (["MODEL", "--input-shape", "3,8"], "failed on an example input of shape"),
        (["MODEL", "--input-shape", "4,8,8"], "failed on an example input of shape"),
        (["MODEL", "--input-shape", "3,x,8"], "is a whole number"),
        (["MODEL", "--input-shape", "3,-8,8"], "a list of sizes from 1 up"),
        (["MODEL", "--input-shape", "0,8,8"], "a list of sizes from 1 up"),
        (["MODEL", "--weights", "absent.pt", "--input-shape", "3,8,8"], "weights need a file"),
        (["MODEL", "--data", "npz:absent"], "needs files absent_train"),
        (["MODEL", "--data", "what"], "data are written"),
        (["BROKEN", "--input-shape", "3,8,8"], "no weights today"),
    ],
)
def test_what_cannot_be_inspected_is_said_in_a_sentence(
    world: World, tmp_path: Path, words: list[str], expected: str
) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    names = {"MODEL": world.model, "BROKEN": f"{tmp_path}/odd.py:broken"}
    assert_refused(run("inspect", *(names.get(word, word) for word in words)), expected)


ATTENTIVE = """
import torch
from torch import nn

class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
        self.head = nn.Linear(12, 2)
    def forward(self, x):
        y = self.block(x.flatten(2).mT)
        return torch.fft.rfft(self.head(y @ y.mT @ y)).real

def build():
    return Attentive()
"""


def test_rows_of_functions_and_layers_add_up_and_what_is_not_counted_is_named(tmp_path: Path) -> None:
    (tmp_path / "attentive.py").write_text(ATTENTIVE)
    arguments = ("inspect", f"{tmp_path}/attentive.py:build", "--input-shape", "12,2,3")
    document = last_json(run(*arguments, "--json"))
    layers = {layer["name"]: layer["macs"] for layer in document["layers"]}
    assert layers["block.self_attn.q_proj"] == layers["block.self_attn.out_proj"] == 6 * 12 * 12
    assert layers["block.linear1"] == 6 * 12 * 24
    functions = {function["name"]: function["macs"] for function in document["functions"]}
    assert functions == {"block.self_attn:scaled_dot_product_attention": 2 * 6 * 6 * 12, "matmul": 2 * 6 * 6 * 12}
    assert document["macs"] == sum(layers.values()) + sum(functions.values())
    assert document["not_counted"] == ["fft_r2c"]
    assert "not counted, as there is no formula for it: fft_r2c" in run(*arguments).stdout
