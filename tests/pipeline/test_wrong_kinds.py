"""What people pass first and is of another kind: one sentence that says what to do, before anything runs.

Mistakes about samples have a file of their own, ``test_wrong_samples.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from subjects import corner_data, images
from torch import nn
from torch.utils.data import DataLoader

import polyadic
from polyadic.errors import PolyadicError
from polyadic.search import Uniform
from polyadic.surgery import find_layers
from polyadic.training import ImageTask


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("digits", r"got str: load them with polyadic.data.load_data\('digits'\)"),
        (None, r"got NoneType: pass DataLoader\(inputs, batch_size=32\)"),
        ({"x": images()}, "got dict: a dict is one batch; pass a list of them"),
        (nn.Identity(), "got Identity"),
        (ImageTask, r"got ImageTask: make one, ImageTask\(...\)"),
    ],
)
def test_what_judges_no_network(net: nn.Module, data: Any, words: str) -> None:
    for verb in (polyadic.compress, polyadic.find_plan):
        with pytest.raises(PolyadicError, match=words):
            verb(net, data, images(1), budget=["macs=60%"])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "polyadic:resnet20",
            r"got str: .*load_model\('polyadic:resnet20', weights=...\).model builds",
        ),
        (Path("runs/one"), "got PosixPath: .*polyadic.load opens a result"),
        ([nn.Identity()], "got list: pass the network itself"),
        (nn.Linear, r"got Linear: make one, Linear\(...\)"),
    ],
)
def test_what_is_no_network(model: Any, words: str) -> None:
    for call in (
        lambda: polyadic.compress(model, corner_data(), budget=["macs=60%"]),
        lambda: polyadic.find_plan(model, corner_data(), budget=["macs=60%"]),
        lambda: polyadic.estimate_cost(model, images(1), budget=["macs=60%"]),
        lambda: polyadic.apply_plan(model, polyadic.Plan()),
        lambda: find_layers(model, images(1)),
    ):
        with pytest.raises(PolyadicError, match=words):
            call()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": "macs=60%"}, r"got the text 'macs=60%': write budget=\['macs=60%'\]"),
        ({"budget": ["macs=50"]}, "'macs=50' leaves 50 of .* macs: did you mean macs=50%"),
        ({"budget": ["macs=60%"], "formats": "cp-epc"}, r"got the text 'cp-epc': write formats=\['cp-epc'\]"),
        (
            {"budget": ["macs=60%"], "example_input": (images(1), images(1))},
            "Net.forward.. takes 2 positional arguments but 3",
        ),
        ({"budget": ["macs=60%"], "example_input": images(1).numpy()}, "got a ndarray"),
        (
            {"budget": ["macs=60%"], "options": polyadic.CompressOptions(max_drop_per_layer=1.0)},
            r"max_drop_per_layer is for searches layer by layer \(bisection\); frontier looks",
        ),
        (
            {"max_drop": 1, "options": polyadic.CompressOptions(max_drop_per_layer=1.0, search=Uniform())},
            "uniform looks at whole plans",
        ),
    ],
)
def test_what_is_asked_in_another_way_than_it_is_meant(net: nn.Module, given: dict[str, Any], words: str) -> None:
    with pytest.raises(PolyadicError, match=words):
        polyadic.find_plan(net, lambda _: 0.5, **{"example_input": images(1), **given})


def test_an_example_is_no_loader(net: nn.Module) -> None:
    loader: Any = DataLoader(images(8), batch_size=4)
    with pytest.raises(PolyadicError, match=r"got a DataLoader: of a loader pass one batch's inputs, next\("):
        find_layers(net, loader)


def test_a_task_is_no_loader(net: nn.Module) -> None:
    loader: Any = [images(8)]
    for call in (lambda: polyadic.finetune(net, net, loader), lambda: polyadic.evaluate(net, loader)):
        with pytest.raises(PolyadicError, match=r"got list: for samples pass polyadic.SampleTask\("):
            call()


def test_inputs_of_another_dtype_than_the_weights_are_named(net: nn.Module) -> None:
    with pytest.raises(PolyadicError, match="the weights are bfloat16 and the input is float32; bring"):
        find_layers(net.bfloat16(), images(1))
