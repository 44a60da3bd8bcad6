"""Plain torch layers and their description, both ways."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from cases import gaussian
from oracles import as_torch_stores
from polyadic.layers import kernel_of, plain_layer, spec_of, torch_weight
from polyadic.schema import ConvSpec

MODULES = [
    nn.Linear(3, 4),
    nn.Linear(3, 4, bias=False),
    nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=2),
    nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
    nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"),
    nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="replicate"),
    nn.ConvTranspose1d(3, 4, 3, stride=2, output_padding=1),
    nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 0), groups=2, bias=False, dilation=(1, 2)),
    nn.ConvTranspose3d(2, 3, (1, 2, 3), padding=(0, 1, 1)),
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
        nn.BatchNorm2d(1),
        nn.LazyConv2d(1, 3),
        nn.Bilinear(1, 1, 1),
        parametrizations.weight_norm(Subclass(1, 1, 3)),
    ],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_what_is_not_plain_has_no_description(module: nn.Module) -> None:
    assert spec_of(module) is None


def test_a_parametrised_layer_is_described_as_what_it_was() -> None:
    assert spec_of(parametrizations.weight_norm(nn.Conv2d(1, 1, 3))) == spec_of(nn.Conv2d(1, 1, 3))
    assert spec_of(parametrizations.spectral_norm(nn.Linear(2, 2))) == spec_of(nn.Linear(2, 2))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_a_kernel_is_the_same_numbers_however_torch_stores_them(
    groups: int, S: int, T: int, axes: int, transposed: bool
) -> None:
    window = (2, 1, 3)[:axes]
    spec = ConvSpec(
        groups * S, groups * T, window, (1,) * axes, (0,) * axes, (1,) * axes, groups,
        transposed=transposed, output_padding=(0,) * axes if transposed else (),
    )  # fmt: skip
    layer, kernel = plain_layer(spec, dtype=torch.float64), gaussian(*spec.weight_shape)
    weight = torch_weight(kernel, spec)
    assert weight.shape == layer.get_parameter("weight").shape
    assert torch.equal(kernel_of(weight, spec), kernel)
    assert torch.equal(weight, as_torch_stores(spec, kernel))


def test_the_kernel_of_a_transposed_layer_is_what_one_impulse_spreads() -> None:
    layer = nn.ConvTranspose2d(4, 6, (3, 2), groups=2, bias=False).double()
    spec = spec_of(layer)
    assert spec is not None
    kernel = kernel_of(layer.weight, spec)
    for s in range(4):
        x = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
        x[0, s] = 1.0
        outputs = range(3) if s < 2 else range(3, 6)
        torch.testing.assert_close(layer(x)[0, outputs], kernel[outputs, s % 2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_layer_is_built_in_the_type_asked_for(dtype: torch.dtype) -> None:
    for spec in (ConvSpec(2, 3, bias=True), ConvSpec(2, 3, (3,), (1,), (0,), (1,), bias=True)):
        assert {p.dtype for p in plain_layer(spec, torch.device("cpu"), dtype).parameters()} == {dtype}
