"""What the callback does at each of Lightning's calls; ``tests/test_recipes.py`` runs it in Lightning itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from results import images, small
from torch import nn

import polyadic
from polyadic.errors import LayerError, PolyadicError

PLAN = polyadic.Plan((polyadic.Choice("first", "tucker2", (2, 3)),))


class Callback:
    """Stands for Lightning's."""


@pytest.fixture(autouse=True)
def _lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("lightning.pytorch")
    package.Callback = Callback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning.pytorch", package)


class Module(nn.Module):
    """Stands for a Lightning module."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def callback(folder: Path, **given: Any) -> Any:
    known = {"network": "net", "plan": PLAN, "dense": small(), "example_input": images(), "score": "val_psnr"}
    return polyadic.lightning_callback(folder, **{**known, **given})


def trainer(first: bool = True, **metrics: float) -> Any:
    named = {name: torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(is_global_zero=first, callback_metrics=named)


def test_a_fit_ends_with_a_folder_that_holds_the_logged_score(tmp_path: Path) -> None:
    module = Module(polyadic.apply_plan(small(), PLAN).model)
    made = callback(tmp_path / "out")
    assert isinstance(made, Callback)
    made.on_fit_start(trainer(), module)
    made.on_fit_end(trainer(first=False, val_psnr=31.25), module)
    assert not (tmp_path / "out").exists()  # another process of several
    made.on_fit_end(trainer(val_psnr=31.25), module)
    known = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (known["compressed"]["score"], known["score_name"]) == (31.25, "val_psnr")


def test_what_could_not_be_saved_is_said_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="the network is factorised as the plan says"):
        callback(tmp_path).on_fit_start(trainer(), Module(small()))
    with pytest.raises(PolyadicError, match="holds the network in Module, one of net; got 'model'"):
        callback(tmp_path, network="model").on_fit_start(trainer(), Module(small()))


def test_a_metric_that_is_not_logged_is_named(tmp_path: Path) -> None:
    module = Module(polyadic.apply_plan(small(), PLAN).model)
    with pytest.raises(PolyadicError, match="got 'val_psnr', and it has logged train_loss: pass one"):
        callback(tmp_path).on_fit_end(trainer(train_loss=0.5), module)


def test_without_lightning_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lightning", "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys.modules[polyadic.lightning_callback.__module__], "find_spec", lambda name: None)
    with pytest.raises(PolyadicError, match="pip install lightning"):
        callback(tmp_path)
