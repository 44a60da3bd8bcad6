"""A tensor-train layer is the dense layer with its kernel, in each of its ways."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from trains import SMALL, Case, conv, image_of, layer_of, trains

from cases import gaussian
from oracles import dense_layer
from polyadic.errors import LayerError
from polyadic.layers import TTLayer
from polyadic.schema import ConvSpec, TTSpec, Way

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
WAYS: tuple[Way, ...] = ("cores", "dense", "auto")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def plain(layer: TTLayer) -> nn.Module:
    """The torch layer with the kernel of ``layer``; tests/formats holds that kernel against its definition."""
    return dense_layer(layer.spec.dense, layer.kernel().detach(), layer.bias)


@pytest.mark.parametrize("way", WAYS)
@given(case=trains())
@settings(max_examples=60)
def test_in_every_way_it_is_the_dense_layer(way: Way, case: Case) -> None:
    spec, size = case
    layer, x = layer_of(spec, way), image_of(spec, size)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(layer)(x), **CLOSE)


# by fewer operations from the window on, and towards the window: few inputs or few outputs
ORDERS = {
    True: TTSpec(conv(2, 8, 3, 3), (4, 2), (2, 1), (2, 2)),
    False: TTSpec(conv(16, 2, 3, 3), (2, 1), (4, 4), (2, 2)),
}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first", [True, False])
def test_cores_run_from_the_end_that_takes_fewer_operations(first: bool, stride: int) -> None:
    modes = ORDERS[first]
    spec = TTSpec(conv(modes.in_channels, modes.out_channels, 3, 3, stride=stride), *_modes(modes))
    assert spec.window_first == first
    layer, x = layer_of(spec), image_of(spec, (6, 5))
    torch.testing.assert_close(layer(x), plain(layer)(x), **CLOSE)


def _modes(spec: TTSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return spec.row_modes, spec.column_modes, spec.ranks


@pytest.mark.parametrize("way", WAYS)
@given(case=trains(st.integers(1, 3)))
@settings(max_examples=20)
def test_one_sample_without_a_batch_is_taken_as_torch_takes_it(way: Way, case: Case) -> None:
    spec, size = case
    layer, x = layer_of(spec, way), image_of(spec, size)
    torch.testing.assert_close(layer(x[0]), plain(layer)(x[0]), **CLOSE)
    assert layer(x[0]).shape == (spec.out_channels, *spec.output_size(size))


@pytest.mark.parametrize("way", WAYS)
@given(case=trains(st.just(0)), lead=st.lists(st.integers(0, 3), max_size=3))
@settings(max_examples=20)
def test_a_linear_takes_any_axes_before_its_features(way: Way, case: Case, lead: list[int]) -> None:
    spec, _ = case
    layer, x = layer_of(spec, way), gaussian(*lead, spec.in_channels)
    y = layer(x)
    assert y.shape == (*lead, spec.out_channels)
    torch.testing.assert_close(y, plain(layer)(x), **CLOSE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", [SMALL, ORDERS[False], TTSpec(conv(4, 4, 1, stride=2), (2, 2), (2, 2), (2,))])
def test_no_samples_give_no_samples(way: Way, spec: TTSpec) -> None:
    layer, x = layer_of(spec, way), image_of(spec, (6,) * spec.axes, samples=0)
    assert layer(x).shape == plain(layer)(x).shape


@pytest.mark.parametrize("way", WAYS)
def test_an_input_in_any_memory_layout_is_taken(way: Way) -> None:
    layer, x = layer_of(SMALL, way), image_of(SMALL, (6, 5)).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), plain(layer)(x.contiguous()), **CLOSE)


@given(case=trains())
@settings(max_examples=40)
def test_gradients_are_those_of_the_dense_layer(case: Case) -> None:
    """By cores they go back core by core; in the dense way through torch's layer and the contraction of the kernel."""
    spec, size = case
    found = []
    for way in ("cores", "dense"):
        layer, x = layer_of(spec, way), image_of(spec, size).requires_grad_()
        y = layer(x)
        (y * gaussian(*y.shape, seed=3)).sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in layer.parameters())])
    for by_cores, dense in zip(*found, strict=True):
        torch.testing.assert_close(by_cores, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", ["cores", "dense"])
@pytest.mark.parametrize(
    "spec",
    [
        TTSpec(ConvSpec(3, 4, (2, 1), (2, 1), (1, 0), (1, 1), bias=True), (2, 2), (2, 2), (2, 1)),
        TTSpec(ConvSpec(4, 2, (2,), (2,), (0,), (1,), transposed=True, output_padding=(1,)), (2, 1), (2, 2), (1, 2)),
        TTSpec(ConvSpec(4, 3, bias=True), (2, 2), (2, 2), (2,)),
    ],
    ids=["window", "transposed", "Linear"],
)
def test_gradients_are_the_derivatives(way: Way, spec: TTSpec) -> None:
    layer, x = layer_of(spec, way), image_of(spec, (2,) * spec.axes, samples=1).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def answer(given: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (given,))

    assert torch.autograd.gradcheck(answer, (x, *layer.parameters()))


@pytest.mark.parametrize("way", WAYS)
def test_frozen_cores_pass_a_gradient_on(way: Way) -> None:
    layer, x = layer_of(SMALL, way), image_of(SMALL, (4, 4)).requires_grad_()
    expected = image_of(SMALL, (4, 4)).requires_grad_()
    plain(layer)(expected).square().sum().backward()
    layer.cores.requires_grad_(False)
    layer(x).square().sum().backward()
    torch.testing.assert_close(x.grad, expected.grad, **CLOSE)
    assert layer.bias.grad is not None
    assert all(G.grad is None for G in layer.cores)


def test_it_trains_to_a_layer_that_it_can_be() -> None:
    target, layer, x = layer_of(SMALL, seed=5), layer_of(SMALL), image_of(SMALL, (6, 6), samples=8)
    wanted = target(x).detach()
    optimizer = torch.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe", max_iter=200)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (layer(x) - wanted).square().mean()
        value.backward()
        return value

    before = float(loss().detach())
    optimizer.step(loss)
    assert float(loss().detach()) < 1e-3 * before


def test_a_way_that_there_is_not_is_refused() -> None:
    layer = layer_of(SMALL)
    with pytest.raises(LayerError, match="'cores', 'dense' or in the way 'auto' finds; got 'fast'"):
        layer.run_in("fast")  # type: ignore[arg-type]
    layer.run_in("dense")
    assert layer.spec.way == "dense"


def test_it_says_what_it_is() -> None:
    text = repr(layer_of(SMALL, "auto"))
    assert "6, 6, kernel_size=(3, 3), stride=(1, 1), modes=2x3 3x2, ranks=(2, 3), way=auto" in text
