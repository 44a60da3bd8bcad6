"""Layers whose weight is computed take part as the plain layers that they are in evaluation mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import everything_of
from parametrisations import WAYS, Failing, Squashed, computed, doubles, old_weight_normed, plain, sites_of
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from polyadic.decomposition import InputNorm
from polyadic.formats import FactoredKernel, format_named
from polyadic.schema import Choice, Plan
from polyadic.surgery import (
    CP,
    SVD,
    SequentialOptions,
    Tucker2,
    copy_model,
    decompose_,
    find_layers,
    input_norms,
    layer_at,
    plan_stages,
    rebuild,
    replace_in_sequence,
)

every_way = pytest.mark.parametrize("way", WAYS)
FULL = {"1": Tucker2((6, 8)), "5": SVD(5)}


def factorise_for(model: nn.Module) -> Callable[[Choice, Tensor, InputNorm | None], FactoredKernel]:
    return lambda choice, kernel, norm: format_named(choice.format).factorise(
        kernel, layer_at(model, choice.layer)[2], choice.rank, 0, norm
    )


@every_way
def test_the_sites_are_those_of_the_plain_network(way: str) -> None:
    assert find_layers(computed(way), doubles()) == find_layers(plain(), doubles())
    assert [site.kind for site in sites_of(computed(way)).values()] == ["Conv2d", "Conv2d", "Linear"]


@every_way
@pytest.mark.parametrize("training", [False, True])
def test_finding_and_reading_layers_leaves_the_model_as_it_was(way: str, training: bool) -> None:
    model = computed(way).train(training)
    before, seed = everything_of(model), torch.get_rng_state()
    find_layers(model, doubles())
    for name in ("1", "5"):
        layer_at(model, name)
    assert everything_of(model) == before
    assert torch.equal(torch.get_rng_state(), seed)


@every_way
def test_the_kernel_is_what_the_layer_multiplies_by(way: str) -> None:
    model = computed(way)
    kernel = layer_at(model, "5")[1]
    layer = model.eval()[5]
    identity = torch.eye(32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(kernel.mT, layer(identity) - layer(0 * identity), rtol=0, atol=1e-12)
    assert not kernel.requires_grad or kernel is layer.weight


@every_way
@pytest.mark.parametrize("training", [False, True])
def test_at_full_rank_the_network_is_the_dense_one(way: str, training: bool) -> None:
    model = computed(way).train(training)
    dense = copy_model(model).eval()(doubles())
    plan = decompose_(model, FULL, doubles())
    assert [choice.layer for choice in plan.choices] == ["1", "5"]
    torch.testing.assert_close(model.eval()(doubles()), dense, rtol=0, atol=1e-10)
    for name in ("1", "5"):
        chain = model.get_submodule(name)
        assert {type(stage) for stage in chain} <= {nn.Conv2d, nn.Linear}
        assert sorted(chain.state_dict()) == sorted(
            key for n, stage in enumerate(chain) for key in ([f"{n}.weight"] + [f"{n}.bias"] * (stage.bias is not None))
        )


@every_way
def test_weights_that_changed_since_the_last_forward_pass_count(way: str) -> None:
    model = computed(way).eval()
    with torch.no_grad():
        model(doubles())
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.ones_like(parameter))
    dense = copy_model(model)(doubles())
    chains = copy_model(model)
    with parametrize.cached():
        model(doubles())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * torch.ones_like(parameter))
        kernel = layer_at(model, "5")[1]
    decompose_(chains, FULL, doubles())
    torch.testing.assert_close(chains(doubles()), dense, rtol=0, atol=1e-10)
    identity = torch.eye(32, dtype=torch.float64)
    with torch.no_grad():
        now = model[5](identity) - model[5](0 * identity)
    torch.testing.assert_close(kernel.mT, now, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["weight norm", "old weight norm", "pruned"])
def test_a_chain_learns_if_what_computed_the_weight_did(way: str) -> None:
    for trained in (False, True):
        model = computed(way).requires_grad_(trained)
        decompose_(model, FULL, doubles())
        assert {p.requires_grad for name in ("1", "5") for p in model.get_submodule(name).parameters()} == {trained}


@every_way
def test_a_plan_rebuilds_the_network_that_was_made(way: str) -> None:
    model, other = computed(way), computed(way).eval()
    plan = decompose_(model.eval(), {"1": CP(3), "5": SVD(2)}, doubles())
    assert plan_stages(other, plan)["1"][0].in_channels == 6
    rebuild(other, Plan.from_json(json.loads(json.dumps(plan.to_json()))))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(doubles()), model(doubles()))


def test_rebuilding_computes_no_weight() -> None:
    model = plain()
    parametrize.register_parametrization(model[1], "weight", Failing(0), unsafe=True)
    rebuild(model, Plan((Choice("1", "tucker2", (2, 2)),)))
    assert {parameter.dtype for parameter in model[1].parameters()} == {torch.float64}
    with torch.device("meta"):
        skeleton = plain()
        weight_norm(skeleton[1])
    rebuild(skeleton, Plan((Choice("1", "tucker2", (2, 2)),)))
    assert {parameter.device.type for parameter in skeleton[1].parameters()} == {"meta"}


@pytest.mark.parametrize("way", ["weight norm", "spectral norm", "old weight norm", "old spectral norm", "pruned"])
@pytest.mark.parametrize("options", [{}, {"norm": "channels", "inputs": "dense"}, {"norm": "plain", "correct": False}])
def test_a_walk_through_the_network_takes_them_too(way: str, options: dict[str, Any]) -> None:
    model = computed(way).eval()
    x = doubles(6)
    plan = Plan((Choice("1", "tucker2", (6, 8)), Choice("5", "svd", (5,))))
    sites = find_layers(model, x)
    before = everything_of(model)
    network, kernels = replace_in_sequence(
        model,
        plan,
        factorise_for(model),
        x,
        sites,
        options=SequentialOptions(**options, ridge=1e-9, refit_ridge=1e-9),
    )
    assert set(kernels) == {"1", "5"}
    torch.testing.assert_close(network(x), model(x), rtol=0, atol=1e-6)
    assert everything_of(model) == before
    assert set(input_norms(model, ["1", "5"], x)) == {"1", "5"}


@pytest.mark.parametrize("way", ["weight norm", "old weight norm", "pruned"])
def test_those_that_stay_dense_stay_as_they_are(way: str) -> None:
    model = computed(way).eval()
    x = doubles(6)
    sites, plan = find_layers(model, x), Plan((Choice("0", "svd", (1,)), Choice("1", "tucker2", (1, 1))))
    network, _ = replace_in_sequence(model, plan, factorise_for(model), x, sites)
    kept, dense = network.get_submodule("5").state_dict(), model[5].state_dict()
    assert kept.keys() == dense.keys()
    assert all(torch.equal(kept[name], dense[name]) for name in dense)
    rebuilt = rebuild(copy_model(model), plan)
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(x), network(x))


@every_way
def test_a_copy_is_made_whatever_was_computed_before(way: str) -> None:
    model = computed(way).eval()
    expected = model(doubles())  # the older hooks leave a tensor of the graph behind, which copy.deepcopy refuses
    before = everything_of(model)
    twin = copy_model(model)
    assert everything_of(model) == before
    assert torch.equal(twin(doubles()), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(doubles()), expected)


def test_a_copy_is_made_of_sequences_under_the_older_weight_norm_too() -> None:
    lstm = nn.LSTM(3, 4, batch_first=True).double()
    old_weight_normed(lstm, "weight_hh_l0")
    model, x = nn.Sequential(lstm), torch.ones(2, 5, 3, dtype=torch.float64)
    expected = model(x)[0]
    assert torch.equal(copy_model(model)(x)[0], expected)
    assert not lstm.weight_hh_l0.is_leaf
    (site,) = find_layers(model, x)
    assert site.reason == "LSTM is neither a convolution nor a fully connected layer"


def test_modules_of_which_all_weights_are_parametrised_are_named() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(torch.ones(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.queries

    model = nn.Sequential(Attention())
    parametrize.register_parametrization(model[0], "queries", Squashed())
    (site,) = find_layers(model, torch.ones(2, 3))
    assert (site.kind, site.reason) == ("Attention", "Attention is neither a convolution nor a fully connected layer")
