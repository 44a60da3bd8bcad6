from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from polyadic.errors import LayerError
from polyadic.models import ResNetCifar, load_model

FACTORY = """
import torch.nn as nn
import {sibling}

def build():
    return {sibling}.Net()

def number():
    return 3

def broken():
    raise KeyError("width")

def asks(width):
    return nn.Conv2d(3, width, 3)

def lazy():
    return nn.Sequential(nn.LazyLinear(3))

value = 5
"""


@pytest.fixture
def factory_file(tmp_path: Path) -> Path:
    # The sibling is imported by name and stays in sys.modules: each test has its own.
    sibling = f"net_{tmp_path.name}"
    (tmp_path / f"{sibling}.py").write_text(
        "import torch.nn as nn\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(2, 3)\n"
    )
    path = tmp_path / "made here.py"
    path.write_text(FACTORY.format(sibling=sibling))
    return path


def test_a_named_model_comes_in_eval_mode_with_its_input_shape() -> None:
    loaded = load_model("polyadic:digits-cnn")
    assert loaded.source == "polyadic:digits-cnn"
    assert loaded.input_shape == (1, 8, 8)
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_classes_set_the_number_of_outputs() -> None:
    model = load_model("polyadic:resnet20", classes=100).model
    assert isinstance(model, ResNetCifar)
    assert model.linear.out_features == 100


def test_a_factory_in_a_file_may_import_its_neighbours(factory_file: Path) -> None:
    before = list(sys.path)
    loaded = load_model(f"{factory_file}:build")
    assert isinstance(loaded.model, nn.Linear)
    assert loaded.input_shape is None
    assert not loaded.model.training
    assert sys.path == before


def test_a_factory_in_a_module_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "polyadic_test_nets.py").write_text(
        "import torch\n\ndef conv():\n    return torch.nn.Conv2d(3, 4, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_model("polyadic_test_nets:conv").model, nn.Conv2d)


def test_a_factory_in_an_installed_package() -> None:
    assert isinstance(load_model("polyadic.models:Vgg16Cifar").model, nn.Module)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("number", "returned a int"),
        ("broken", "KeyError: 'width'"),
        ("asks", "missing 1 required positional argument: 'width'"),
        ("lazy", "'0.weight' .* is lazy"),
        ("value", "must define the model factory 'value'"),
        ("absent", "must define the model factory 'absent'"),
    ],
)
def test_a_factory_that_gives_no_model_is_told(factory_file: Path, name: str, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        load_model(f"{factory_file}:{name}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a model is written"),
        ("resnet20", "a model is written"),
        ("polyadic:", "no model ''"),
        ("polyadic:resnet21", "no model 'resnet21': use one of resnet20, resnet32"),
        (":build", "a model is written"),
        ("missing_package_of_nets:build", "'missing_package_of_nets' is not .ModuleNotFoundError"),
        ("missing.py:build", "there is none at 'missing.py'"),
    ],
)
def test_a_text_that_names_no_model_is_told(text: str, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        load_model(text)


def test_a_file_that_does_not_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def build(:\n")
    with pytest.raises(LayerError, match=r"could not be executed .SyntaxError"):
        load_model(f"{tmp_path / 'nets.py'}:build")
    assert "polyadic_model_nets" not in sys.modules


@pytest.mark.parametrize("text", ["polyadic:resnet20", "polyadic.models:Vgg16Cifar"])
def test_a_classifier_has_at_least_one_class(text: str) -> None:
    with pytest.raises(LayerError, match="classes=0"):
        load_model(text, classes=0)


def test_classes_may_not_be_given_with_a_factory() -> None:
    with pytest.raises(LayerError, match=r"a factory decides .* got classes=7"):
        load_model("polyadic.models:Vgg16Cifar", classes=7)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    # None in sys.modules makes an import fail as for a package that is not installed.
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.models", None)
    with pytest.raises(LayerError, match=rf"need {package}; .* pip install 'polyadic\[zoo\]'"):
        load_model(f"{package}:resnet18")


def test_an_extra_that_does_not_fit_torch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LayerError, match=r"fits the installed torch; .*nms does not exist.*reinstall"):
        load_model("timm:resnet18")


def test_torchvision_models(torchvision_models: Any) -> None:
    loaded = load_model("torchvision:resnet18", classes=7)
    assert isinstance(loaded.model, torchvision_models.ResNet)
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.model.fc.out_features == 7
    assert set(load_model("polyadic:resnet18").model.state_dict()) == set(loaded.model.state_dict())


@pytest.mark.parametrize("name", ["resnet19", "fasterrcnn_resnet50_fpn"])
def test_torchvision_has_classifiers_only(torchvision_models: Any, name: str) -> None:
    with pytest.raises(LayerError, match=f"no classification model '{name}'"):
        load_model(f"torchvision:{name}")


def test_timm_models(timm: Any) -> None:
    loaded = load_model("timm:resnet10t", classes=7)
    assert loaded.input_shape == (3, 176, 176)
    assert loaded.model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_timm_fetches_nothing_from_a_hub(timm: Any) -> None:
    with pytest.raises(LayerError, match="no classification model 'hf-hub:someone/net'"):
        load_model("timm:hf-hub:someone/net")
