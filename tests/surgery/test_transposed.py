"""Transposed convolutions in a model, in the ways in which models call them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import images, seeded
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from polyadic.formats import FORMATS
from polyadic.schema import LayerSite
from polyadic.surgery import Tucker2, chain_for, decompose_, find_layers, layer_at, network_cost, rebuild, swap_layer


class Decoder(nn.Module):
    """Down and up again, (N, 3, 12, 12) to (N, 2, 12, 12); ``call`` says how the layer that goes up is called."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor] = lambda up, x: up(x)) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
        self.grouped = nn.ConvTranspose2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.point = nn.ConvTranspose2d(6, 2, 1)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.grouped(self.call(self.up, self.down(x))))  # type: ignore[no-any-return]


def decoder(call: Callable[..., Tensor] = lambda up, x: up(x)) -> nn.Module:
    return seeded(lambda: Decoder(call)).double().eval()


def doubles(count: int = 2) -> Tensor:
    return images(count, dtype=torch.float64)


def sites_of(model: nn.Module) -> dict[str, LayerSite]:
    return {site.name: site for site in find_layers(model, doubles())}


TRANSPOSED = [spec for name in ("up", "grouped", "point") if (spec := layer_at(decoder(), name)[2]).transposed]
SERVING = [name for name, fmt in FORMATS.items() if any(fmt.refuses(spec) is None for spec in TRANSPOSED)]


def test_they_are_found_with_their_costs() -> None:
    sites = sites_of(decoder())
    assert {name: (site.kind, site.reason) for name, site in sites.items()} == {
        "down": ("Conv2d", None),
        "up": ("ConvTranspose2d", None),
        "grouped": ("ConvTranspose2d", None),
        "point": ("ConvTranspose2d", None),
    }
    assert sum(site.macs for site in sites.values()) == network_cost(decoder(), doubles()).macs
    assert sum(site.params for site in sites.values()) == sum(p.numel() for p in decoder().parameters())


@pytest.mark.parametrize("normed", [False, True])
def test_their_kernel_is_written_outputs_first(normed: bool) -> None:
    model = decoder()
    if normed:
        weight_norm(model.up, dim=1)
    _, kernel, spec = layer_at(model, "up")
    assert tuple(kernel.shape) == spec.weight_shape == (3, 4, 3, 3)
    impulse = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    for s in range(4):  # an impulse spreads into its kernel; stride 2 and padding 1 put the middle at (2, 2)
        impulse.zero_()[0, s, 1, 1] = 1.0
        with torch.no_grad():
            response = model.up(impulse) - model.up(0 * impulse)
        torch.testing.assert_close(response[0, :, 1:4, 1:4], kernel[:, s], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SERVING)
@pytest.mark.parametrize("norm", [None, lambda layer: weight_norm(layer, dim=1), spectral_norm])
def test_at_full_rank_the_network_is_the_dense_one(name: str, norm: Any) -> None:
    model, fmt = decoder(), FORMATS[name]
    if norm is not None:
        for layer in (model.up, model.grouped, model.point):
            norm(layer)
    dense = model(doubles()).detach()
    for site in find_layers(model, doubles()):
        layer, kernel, spec = layer_at(model, site.name)
        if spec.transposed and fmt.refuses(spec) is None:
            chain = chain_for(layer, fmt.factorise(kernel.detach(), spec, fmt.largest_rank(spec)))
            with swap_layer(model, site, chain):
                torch.testing.assert_close(model(doubles()).detach(), dense, rtol=0, atol=1e-8)


def test_a_plan_rebuilds_them() -> None:
    model = decoder()
    weight_norm(model.up, dim=1)
    other = copy.deepcopy(model)
    plan = decompose_(model, {"up": Tucker2((2, 2))}, doubles())
    rebuild(other, plan).load_state_dict(model.state_dict())
    assert torch.equal(other(doubles()), model(doubles()))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda up, x: up(x, output_size=[12, 12]), "output_size"),
        (lambda up, x: up(input=x, output_size=[12, 12]), "output_size"),
        (lambda up, x: up(x, [12, 12]), "2 arguments"),
    ],
)
def test_a_layer_that_is_told_the_size_of_its_output_stays(call: Callable[..., Tensor], words: str) -> None:
    sites = sites_of(decoder(call))
    assert sites["up"].reason == f"the model calls it with more than one tensor ({words}), and a chain takes one"
    assert [name for name, site in sites.items() if site.reason is None] == ["down", "grouped", "point"]


def test_a_layer_that_is_called_by_keyword_is_a_candidate() -> None:
    model = decoder(lambda up, x: up(input=x))
    dense = model(doubles())
    decompose_(model, {"up": Tucker2((4, 3))}, doubles())
    torch.testing.assert_close(model(doubles()), dense, rtol=0, atol=1e-10)
