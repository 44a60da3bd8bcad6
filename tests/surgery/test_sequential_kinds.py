"""The walk through a network with layers that have no patches, several groups, or chains that cannot be refitted."""

from __future__ import annotations

import pytest
import torch
from nets import seeded
from torch import Tensor, nn

from polyadic.formats import format_named, rank_for
from polyadic.schema import Choice, Plan
from polyadic.surgery import find_layers, input_norms, layer_at, replace_in_sequence, replace_one_by_one


def mixed() -> nn.Module:
    """A grouped, a transposed and a one-dimensional window in one network: (N, 3, 8, 8) to (N, 6)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, (3, 1), stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 7 * 8, 6),
    )


def smooth(count: int, seed: int) -> Tensor:
    """Images whose neighbouring pixels are alike, so that inputs have directions that matter more than others."""
    noise = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.cumsum(2).cumsum(3) / 4


def plan_for(model: nn.Module, names: dict[str, str], ratio: float) -> Plan:
    choices = []
    for layer, name in names.items():
        _, kernel, spec = layer_at(model, layer)
        choices.append(Choice(layer, name, rank_for(format_named(name), kernel.detach(), spec, ratio=ratio)))
    return Plan(tuple(choices))


@pytest.mark.parametrize(
    "names",
    [
        {"2": "tucker2", "4": "tucker2", "6": "tucker2"},
        {"2": "cp-epc", "4": "cp4-epc", "6": "cp-epc"},
        {"2": "spatial-svd", "4": "spatial-svd"},
        {"4": "tt", "6": "tt-matrix", "9": "tt-matrix"},
    ],
    ids=["tucker", "cp", "spatial svd", "trains"],
)
def test_in_sequence_less_is_lost_than_apart(names: dict[str, str]) -> None:
    model = seeded(mixed).double().eval()
    x, unseen = smooth(200, 1), smooth(100, 2)
    sites = find_layers(model, x[:2])
    plan = plan_for(model, names, 1.3)

    def factorise(choice: Choice, kernel: Tensor, norm: object) -> object:
        return format_named(choice.format).factorise(kernel, layer_at(model, choice.layer)[2], choice.rank, 0, norm)

    apart, _ = replace_one_by_one(model, plan, factorise)
    walked, kernels = replace_in_sequence(model, plan, factorise, x, sites)
    assert set(kernels) == set(names)
    with torch.no_grad():
        wanted = model(unseen)
        errors = [float((network(unseen) - wanted).norm()) for network in (walked, apart)]
    assert errors[0] < 0.8 * errors[1]


def test_a_chain_that_is_not_refitted_has_no_mean_error() -> None:
    model = seeded(mixed).double().eval()
    x = smooth(200, 1)
    plan = plan_for(model, {"2": "cp-epc"}, 1.5)  # its last stage has groups, and stays as it is

    def factorise(choice: Choice, kernel: Tensor, norm: object) -> object:
        return format_named(choice.format).factorise(kernel, layer_at(model, choice.layer)[2], choice.rank, 0, norm)

    walked, _ = replace_in_sequence(model, plan, factorise, x, find_layers(model, x[:2]))
    with torch.no_grad():
        error = walked[:3](x) - model[:3](x)
    assert float(error.norm()) > 0.01
    assert float(error.mean((0, 2, 3)).abs().max()) < 1e-10


def test_a_transposed_layer_has_a_norm_of_its_channels_and_a_grouped_one_none() -> None:
    model = seeded(mixed).double().eval()
    norms = input_norms(model, ["0", "2", "4"], smooth(50, 1))
    assert set(norms) == {"0", "4"}
    assert norms["4"].taps is None
    assert norms["4"].channels.root.shape == (8, 8)
