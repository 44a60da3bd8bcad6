from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polyadic.data import load_data
from polyadic.errors import LayerError
from polyadic.models import ZOO, DigitsCnn, ResNetCifar
from polyadic.models.resnets import BasicBlock

# Counted by hand from the papers' tables: weights, biases and batch-norm scales and shifts at 10 classes.
PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "vgg16-bn": 14_728_266,
    "resnet18": 11_173_962,
    "digits-cnn": 93_546,
    "four-layer-cnn": 390_986,
    "ut-conv": 557_248,
    "ut-conv-fc": 13_934_538,
    "ut-tt-conv-3x": 172_518,
    "ut-naive-2x": 275_982,
    "ut-naive-3x": 192_142,
    "ut-tt-conv-tt-fc-42x": 334_554,
    "ut-tt-conv-tt-fc-83x": 168_154,
}
CONVOLUTIONS = {"resnet20": 19, "resnet56": 55, "vgg16-bn": 13, "resnet18": 20, "digits-cnn": 4, "four-layer-cnn": 4}


def test_every_named_model_is_counted_here() -> None:
    assert set(PARAMETERS) == set(ZOO)


@pytest.mark.parametrize("name", list(ZOO))
def test_parameters_are_those_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        model = ZOO[name].build(10)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["resnet20", "vgg16-bn", "resnet18", "digits-cnn", "four-layer-cnn"])
def test_one_logit_per_class_for_an_image_of_the_stated_shape(name: str) -> None:
    model = ZOO[name].build(7).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, *ZOO[name].input_shape)).shape == (2, 7)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == CONVOLUTIONS[name]


def test_resnet18_has_the_names_of_torchvision() -> None:
    with torch.device("meta"):
        names = set(ZOO["resnet18"].build(10).state_dict())
    block = {f"{part}.weight" for part in ("conv1", "bn1", "conv2", "bn2")}
    assert {f"layer{group}.{at}.{name}" for group in (1, 2, 3, 4) for at in (0, 1) for name in block} <= names
    shortcuts = {name.rpartition(".")[0] for name in names if "downsample" in name}
    assert shortcuts == {f"layer{group}.0.downsample.{at}" for group in (2, 3, 4) for at in (0, 1)}
    assert {name.partition(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}


@pytest.mark.parametrize("depth", [2, 7, 21, -4])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(LayerError, match=f"6 n \\+ 2 .*got {depth}"):
        ResNetCifar(depth)


def test_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides() -> None:
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 8, 3, 3)
    for channel in range(4):
        for row in range(3):
            for column in range(3):
                expected[:, 2 + channel, row, column] = x[:, channel, 2 * row, 2 * column]
    assert torch.equal(BasicBlock(4, 8, stride=2).shortcut(x), expected)


def test_digits_cnn_learns_the_digits() -> None:
    data = load_data("digits")

    def batch(index: Tensor) -> Tensor:
        return data.normalise(data.train.images(index))

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DigitsCnn()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(6):
        for index in torch.randperm(len(data.train), generator=generator).split(64):  # type: ignore[no-untyped-call]
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(batch(index)), data.train.labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    model.eval()
    with torch.no_grad():
        predicted = model(data.normalise(data.test.images(torch.arange(len(data.test))))).argmax(1)
    assert (predicted == data.test.labels).float().mean() > 0.97
