from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.models import load_model
from polyadic.surgery import decompose_, find_layers, network_cost
from polyadic.surgery.layer_map import CP


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5)
    )


def test_parameters_macs_and_bytes_of_a_small_network() -> None:
    cost = network_cost(small(), torch.zeros(7, 3, 8, 8))
    assert cost.params == (27 * 8 + 8) + 16 + (512 * 5 + 5)
    assert cost.macs == 27 * 8 * 64 + 512 * 5
    assert cost.bytes == 4 * (cost.params + 16) + 8  # running mean and variance, and the counter


def test_numbers_are_counted_in_their_own_size_and_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).half()
    model[2].weight = model[0].weight
    cost = network_cost(model.double(), torch.zeros(1, 4, dtype=torch.float64))
    assert cost.params == 16 + 4 + 4
    assert cost.bytes == 8 * 24
    assert cost.macs == 2 * 16


@pytest.mark.parametrize("name", ["resnet20", "digits-cnn"])
def test_a_compressed_network_costs_what_its_chains_cost(name: str) -> None:
    loaded = load_model(f"polyadic:{name}")
    assert loaded.input_shape is not None
    example = torch.zeros(2, *loaded.input_shape)
    dense = network_cost(loaded.model, example)
    sites = {site.name: site for site in find_layers(loaded.model, example)}
    plan = decompose_(loaded.model, {"*": CP(2, "cp-als")}, example)
    saved = saved_params = 0
    for choice in plan.choices:
        site = sites[choice.layer]
        chain = loaded.model.get_submodule(choice.layer)
        assert site.spec is not None
        inner = find_layers(nn.Sequential(chain), torch.zeros(1, site.spec.in_channels, *site.input_sizes[0]))
        saved += site.macs - sum(stage.macs for stage in inner)
        saved_params += site.params - sum(stage.params for stage in inner)
    cost = network_cost(loaded.model, example)
    assert (dense.macs - cost.macs, dense.params - cost.params) == (saved, saved_params)
    assert dense.bytes - cost.bytes == 4 * saved_params


def test_an_input_that_does_not_fit_is_a_layer_error() -> None:
    model = small().train()
    with pytest.raises(LayerError, match=r"failed on shape \(1, 4, 8, 8\)"):
        network_cost(model, torch.zeros(2, 4, 8, 8))
    assert model.training


def test_counting_moves_nothing() -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network_cost(model, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_model_with_frozen_parts_keeps_them_frozen() -> None:
    model = small().train()
    model[1].eval()
    network_cost(model, torch.zeros(1, 3, 8, 8))
    assert [module.training for module in model] == [True, False, True, True, True]


def test_what_is_no_convolution_or_product_costs_nothing() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x.mean()

    cost = network_cost(Sums(), torch.zeros(1, 4))
    assert (cost.params, cost.macs, cost.bytes) == (0, 0, 0)
