"""Networks with parametrised layers, and networks compressed twice: through the whole pipeline to files and back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nets import everything_of, images, net
from parametrisations import WAYS
from torch import nn

from polyadic.export import load, read_plan, save
from polyadic.pipeline import CompressionResult, CompressOptions, compress
from polyadic.schema import Plan
from polyadic.surgery import copy_model

LAYERS = ("body.1", "head")


def computed(way: str, seed: int = 0) -> nn.Module:
    """A Net, (N, 3, 12, 12) to (N, 5), with two parametrised layers, in double precision."""
    model = net(seed).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in LAYERS:
            WAYS[way](model.get_submodule(name))
    model(images(2, dtype=torch.float64))  # the older hooks leave a tensor of the graph behind
    return model


def compressed(model: nn.Module, formats: tuple[str, ...], *exclude: str) -> CompressionResult:
    """As far as it goes: every score is the same."""
    example = images(2, dtype=torch.float64)
    return compress(
        model, lambda _: 0.75, example, max_drop=0.5, formats=formats, options=CompressOptions(exclude=exclude)
    )


def wide(model: nn.Module) -> float:
    """A score that only networks pass whose chain for body.1 is at least four channels wide."""
    chain = model.get_submodule("body.1")
    return 0.75 if not isinstance(chain, nn.Sequential) or min(s.in_channels for s in chain) >= 4 else 0.0


def twice(model: nn.Module) -> tuple[CompressionResult, CompressionResult]:
    """The same compressed, and compressed once more."""
    example = images(2, dtype=torch.float64)
    first = compress(model, wide, example, max_drop=0.5, formats=("tucker2",))
    second = compressed(first.model, ("svd",))
    assert [choice.layer for choice in second.plan.choices if choice.layer.startswith("body.1.")]
    merged = Plan((*first.plan.choices, *second.plan.choices))
    return second, replace(second, dense=first.dense, summary=replace(second.summary, plan=merged))


def same(model: nn.Module, made: nn.Module) -> None:
    x = images(4, seed=5, dtype=torch.float64)
    assert torch.equal(model(x), made(x))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kept", [(), ("head",)])
def test_parametrised_layers_are_compressed_saved_and_loaded(way: str, kept: tuple[str, ...], tmp_path: Path) -> None:
    model = computed(way)
    before = everything_of(copy_model(model))["state"]
    made = compressed(model, ("tucker2", "svd"), *kept)
    assert everything_of(copy_model(model))["state"] == before
    assert {choice.layer for choice in made.plan.choices} == {"stem", "body.1", "point", "head"} - set(kept)
    save(made, tmp_path)
    same(load(tmp_path, model=computed(way, seed=3)), made.model)
    if not kept:  # the parametrisations went with their layers
        same(load(tmp_path, model=net(seed=4).double()), made.model)


def test_a_network_that_was_compressed_twice_is_loaded_from_the_dense_structure(tmp_path: Path) -> None:
    second, both = twice(net().double())
    save(second, tmp_path / "second")
    same(load(tmp_path / "second", model=copy_model(second.dense)), second.model)
    save(both, tmp_path / "both")
    assert Plan.from_json(read_plan(tmp_path / "both")["layers"]) == both.plan
    same(load(tmp_path / "both", model=net(seed=6).double()), second.model)


def test_the_code_in_the_model_card_loads_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second, both = twice(computed("weight norm"))
    save(both, tmp_path)
    code = re.findall(r"^```python\n(.*?)^```", (tmp_path / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"dense_structure": computed("weight norm", seed=2)}
    exec(code.replace("model = ...", "model = dense_structure"), names)  # as the card asks the reader to
    loaded = names["model"]
    assert isinstance(loaded, nn.Module)
    same(loaded, second.model)
