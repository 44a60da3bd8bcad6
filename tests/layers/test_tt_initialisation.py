"""A new tensor-train layer is as large as a new dense one."""

from __future__ import annotations

import pytest
import torch
from trains import conv, image_of

from polyadic.layers import TTLayer
from polyadic.schema import ConvSpec, TTSpec

DRAWS = 600
SPECS = {
    "window": TTSpec(conv(8, 6, 3, 3), (2, 3), (4, 2), (3, 4)),
    "Linear": TTSpec(ConvSpec(12, 8, bias=True), (2, 2, 2), (3, 2, 2), (2, 3)),
    "one tap": TTSpec(conv(8, 6, 1, 1), (2, 3), (4, 2), (4,)),
    "padded": TTSpec(conv(7, 5, 2, 2), (2, 4), (5, 2), (2, 4)),
    "padded Linear": TTSpec(ConvSpec(9, 10, bias=True), (3, 4), (4, 3), (5,)),
    "transposed": TTSpec(
        ConvSpec(8, 6, (3,), (1,), (0,), (1,), bias=True, transposed=True, output_padding=(0,)),
        (2, 3), (4, 2), (3, 4),
    ),
}  # fmt: skip
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def drawn(layer: TTLayer, gain: float | None = None) -> None:
    if gain is None:
        layer.reset_parameters()
    else:
        layer.reset_parameters(gain)


@every_spec
@pytest.mark.parametrize("gain", [None, 2**0.5])
def test_an_entry_of_the_kernel_has_the_variance_of_a_dense_layer(spec: TTSpec, gain: float | None) -> None:
    """Entries of one draw hang together, so what is averaged is many draws; a factor of any rank or mode would show."""
    torch.manual_seed(0)
    layer = TTLayer(spec, dtype=torch.float64)
    kernels = []
    for _ in range(DRAWS):
        drawn(layer, gain)
        kernels.append(layer.kernel().detach())
    found = torch.stack(kernels)
    expected = (1 / 3 if gain is None else gain**2) / (spec.in_channels * spec.dense.taps)
    assert float(found.var()) == pytest.approx(expected, rel=0.12)
    assert abs(float(found.mean())) < 0.05 * expected**0.5
    # no channel and no tap has another variance
    for mode in range(found.ndim - 1):
        each = found.transpose(0, mode + 1).flatten(1).var(dim=1)
        assert float(each.max() / each.min()) < 2.0


def test_torch_draws_its_own_layers_with_that_variance() -> None:
    torch.manual_seed(0)
    weight = torch.cat([torch.nn.Conv2d(8, 6, 3).weight.flatten() for _ in range(50)])
    assert float(weight.detach().var()) == pytest.approx(1 / 3 / (8 * 9), rel=0.05)


@pytest.mark.parametrize("name", ["window", "Linear", "padded", "padded Linear", "transposed"])
def test_at_a_gain_of_one_activations_keep_their_variance(name: str) -> None:
    spec = SPECS[name]
    torch.manual_seed(1)
    layer = TTLayer(spec, dtype=torch.float64)
    size = (7,) * spec.axes
    x, squares = image_of(spec, size, samples=20), []
    for _ in range(200):
        layer.reset_parameters(gain=1.0)
        with torch.no_grad():
            layer.bias.zero_()
            y = layer(x)
        inner = y[(..., *(slice(3, -3) for _ in range(spec.axes)))]  # where the window meets no edge
        squares.append(float(inner.square().mean()))
    assert sum(squares) / len(squares) == pytest.approx(float(x.square().mean()), rel=0.15)


def test_no_core_alone_makes_the_activations_large_or_small() -> None:
    """At equal variance of the kernel, one large core and one small one would train badly."""
    torch.manual_seed(2)
    spec = TTSpec(conv(64, 64, 3, 3), (4, 4, 4), (4, 4, 4), (6, 20, 12))
    layer = TTLayer(spec, dtype=torch.float64)
    layer.reset_parameters(gain=1.0)
    for number, G in enumerate(layer.cores):
        r, t, s, _ = G.shape
        fan_in = r * (t if number == 0 else s)
        assert float(G.detach().var()) * fan_in == pytest.approx(1.0, rel=0.3)


@every_spec
def test_the_bias_lies_within_the_root_of_the_inputs(spec: TTSpec) -> None:
    torch.manual_seed(3)
    layer = TTLayer(spec)
    bound = (spec.in_channels * spec.dense.taps) ** -0.5
    largest = 0.0
    for _ in range(60):
        layer.reset_parameters()
        largest = max(largest, float(layer.bias.detach().abs().max()))
    assert 0.9 * bound < largest <= bound


def test_the_seed_of_torch_decides() -> None:
    torch.manual_seed(5)
    first = TTLayer(SPECS["window"]).state_dict()
    torch.manual_seed(5)
    second = TTLayer(SPECS["window"]).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
