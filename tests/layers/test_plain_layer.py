"""Plain torch layers and their description, both ways."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from polyadic.layers import plain_layer, spec_of
from polyadic.schema import ConvSpec

MODULES = [
    nn.Linear(3, 4),
    nn.Linear(3, 4, bias=False),
    nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=2),
    nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
    nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"),
    nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="replicate"),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_layer_survives_the_way_to_its_description_and_back(module: nn.Module) -> None:
    spec = spec_of(module)
    assert spec is not None
    rebuilt = plain_layer(spec)
    assert spec_of(rebuilt) == spec
    assert rebuilt.extra_repr() == module.extra_repr()
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_rebuilt_layer_with_the_same_weights_computes_the_same(module: nn.Module) -> None:
    spec = spec_of(module)
    assert spec is not None
    rebuilt = plain_layer(spec)
    rebuilt.load_state_dict(module.state_dict())
    x = torch.ones(2, spec.in_channels, *(9,) * spec.axes)
    assert torch.equal(rebuilt(x), module(x))
    assert module(x).shape[2:] == spec.output_size((9,) * spec.axes)


def test_valid_padding_is_no_padding() -> None:
    assert spec_of(nn.Conv2d(1, 1, 3, padding="valid")) == spec_of(nn.Conv2d(1, 1, 3))


class Subclass(nn.Conv2d):
    """It may compute anything."""


@pytest.mark.parametrize(
    "module",
    [
        Subclass(1, 1, 3),
        nn.ConvTranspose2d(1, 1, 3),
        nn.BatchNorm2d(1),
        nn.LazyConv2d(1, 3),
        nn.Bilinear(1, 1, 1),
        parametrizations.weight_norm(nn.Conv2d(1, 1, 3)),
        parametrizations.spectral_norm(nn.Linear(2, 2)),
    ],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_what_is_not_plain_has_no_description(module: nn.Module) -> None:
    assert spec_of(module) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_layer_is_built_in_the_type_asked_for(dtype: torch.dtype) -> None:
    for spec in (ConvSpec(2, 3, bias=True), ConvSpec(2, 3, (3,), (1,), (0,), (1,), bias=True)):
        assert {p.dtype for p in plain_layer(spec, torch.device("cpu"), dtype).parameters()} == {dtype}
