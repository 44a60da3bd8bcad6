"""What people pass first and is of another kind: one sentence that says what to do, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import corner_data, images
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import polyadic
from polyadic.errors import PolyadicError
from polyadic.search import Uniform
from polyadic.surgery import find_layers
from polyadic.training import ImageTask

SAMPLES: Any = TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4).long())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataLoader(Subset(SAMPLES, [])), "samples yield at least one batch; got none: the loader is empty"),
        (DataLoader(Subset(SAMPLES, [0, 1])), "there are 3 or more; got 2"),
        (iter(()), "a generator that was used up before"),
        (SAMPLES, r"got the data set TensorDataset: pass DataLoader\(dataset, batch_size=32\)"),
        ((torch.zeros(4, 3, 8, 8), torch.zeros(4)), r"got a tuple of 2: .* DataLoader\(TensorDataset\(x, y\)"),
        (
            [torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 9, 9)],
            r"batch 1 of samples has \(3, 9, 9\) and Net does not",
        ),
        ([torch.full((4, 3, 8, 8), torch.nan)], "batch 0 of samples holds NaN or Inf"),
        ([torch.zeros(4, 3, 8, 8).double()], "the weights are torch.float32 and batch 0 of samples is torch.float64"),
        (
            [{"a": torch.zeros(4, 3), "b": torch.zeros(4, 3)}],
            r"what forward takes by name \(x\), .* got a, b: say what",
        ),
        (["one.png", "two.png"], "a batch is a tensor, .* got str"),
        ([torch.zeros(4)], r"a tensor \(N, ...\), or several; batch 0 of samples has a tensor of shape \(4,\)"),
        (None, "got NoneType: give one of them"),
        ("digits", r"got str: load them with polyadic.data.load_data\('digits'\)"),
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


def test_inputs_of_another_dtype_than_the_weights_are_named(net: nn.Module) -> None:
    with pytest.raises(PolyadicError, match="the weights are bfloat16 and the input is float32; bring"):
        find_layers(net.bfloat16(), images(1))
