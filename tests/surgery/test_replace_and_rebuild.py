from __future__ import annotations

import copy
import json

import pytest
import torch
from nets import Net, Twice, TwoNames, everything_of, images, net, seeded
from torch import nn

from polyadic.errors import LayerError
from polyadic.formats import format_named
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery import (
    CP,
    SVD,
    Tucker2,
    chain_for,
    decompose_,
    find_layers,
    layer_at,
    plan_stages,
    rebuild,
    replace_layer,
    swap_layer,
)

REQUESTS = {"stem": CP(4), "body.1": Tucker2((3, 4)), "point": SVD(2), "head": SVD(3)}


def site_named(model: nn.Module, name: str) -> LayerSite:
    return next(site for site in find_layers(model, images()) if site.name == name)


def chain_of(model: nn.Module, name: str, fmt: str = "cp-epc", rank: tuple[int, ...] = (2,)) -> nn.Sequential:
    layer, weight, spec = layer_at(model, name)
    return chain_for(layer, format_named(fmt).factorise(weight.detach(), spec, rank))


def test_a_chain_takes_over_dtype_mode_gradient_flag_and_bias() -> None:
    model = net().double().eval()
    layer, weight, _ = layer_at(model, "body.1")
    weight.requires_grad_(False)
    chain = chain_of(model, "body.1", "tucker2", (2, 2))
    assert not chain.training
    assert {p.dtype for p in chain.parameters()} == {torch.float64}
    trained = [name for name, parameter in chain.named_parameters() if parameter.requires_grad]
    assert trained == ["2.bias"]  # the bias of the layer still is
    assert torch.equal(chain[-1].bias, layer.bias)
    assert all(type(stage) is nn.Conv2d for stage in chain)


def test_put_replaces_at_every_name() -> None:
    model = seeded(TwoNames).eval()
    chain = chain_of(model, "first")
    replace_layer(model, site_named(model, "first"), chain)
    assert model.first is chain
    assert model.inner["again"] is chain
    x = images()
    assert torch.equal(model(x), chain(chain(x)))


def test_a_shared_layer_is_replaced_in_both_calls() -> None:
    model = seeded(Twice).eval()
    chain = chain_of(model, "conv")
    replace_layer(model, site_named(model, "conv"), chain)
    x = images()
    assert torch.equal(model(x), chain(torch.nn.functional.avg_pool2d(chain(x), 2)))


@pytest.mark.parametrize("build", [Net, TwoNames])
@pytest.mark.parametrize("fails", [False, True])
def test_swapped_gives_the_layer_back(build: type[nn.Module], fails: bool) -> None:
    model = seeded(build).eval()
    site = find_layers(model, images())[0]
    before, chain, x = everything_of(model), chain_of(model, find_layers(model, images())[0].name), images()
    dense = model(x)
    try:
        with swap_layer(model, site, chain):
            assert all(model.get_submodule(name) is chain for name in (site.name, *site.aliases))
            assert not torch.equal(model(x), dense)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert everything_of(model) == before
    assert torch.equal(model(x), dense)


def test_a_swap_that_cannot_be_carried_out_leaves_the_model() -> None:
    model = seeded(TwoNames).eval()
    before = everything_of(model)
    wrong = LayerSite("first", "Conv2d", None, aliases=("nowhere.at_all",))
    with pytest.raises(AttributeError), swap_layer(model, wrong, nn.Identity()):
        pass
    assert model.first is not None
    assert everything_of(model)["modules"] == before["modules"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rebuild_and_load_give_the_same_bits(dtype: torch.dtype) -> None:
    model = net().to(dtype)
    plan = decompose_(model, REQUESTS, images(dtype=dtype))
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    other = rebuild(seeded(Net, seed=9).to(dtype).eval(), back)
    other.load_state_dict(model.state_dict())
    x = images(4, seed=3, dtype=dtype)
    assert torch.equal(other(x), model(x))
    assert [name for name, _ in other.named_modules()] == [name for name, _ in model.named_modules()]


def test_rebuild_replaces_an_alias_too() -> None:
    model, other = seeded(TwoNames).eval(), seeded(TwoNames, seed=1).eval()
    plan = decompose_(model, {"first": CP(3)}, images())
    rebuild(other, plan)
    assert other.first is other.inner["again"]
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images()), model(images()))


def test_the_stages_of_a_plan_are_those_of_the_model_that_it_built() -> None:
    model = net()
    dense = copy.deepcopy(model)
    plan = decompose_(model, REQUESTS, images())
    for layer, stages in plan_stages(dense, plan).items():
        chain = model.get_submodule(layer)
        assert sum(stage.params for stage in stages) == sum(p.numel() for p in chain.parameters())
        assert len(stages) == len(list(chain.children()))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("missing", "cp-epc", (2,)), "has no layer 'missing'"),
        (Choice("norm", "cp-epc", (2,)), "is a BatchNorm2d, not a plain"),
        (Choice("stem", "cp-epc", (0,)), "out of bounds"),
        (Choice("stem", "cp-epc", (1000,)), "out of bounds"),
        (Choice("stem", "cp-epc", (1, 1)), r"takes 1 rank\(s\)"),
        (Choice("stem", "no-such", (1,)), "a format is one of"),
        (Choice("stem", "svd", (1,)), "cannot be used here"),
    ],
)
def test_a_plan_that_does_not_fit_changes_nothing(choice: Choice, words: str) -> None:
    model = net()
    before = everything_of(model)
    with pytest.raises(LayerError, match=words):
        rebuild(model, Plan((Choice("head", "svd", (1,)), choice)))
    assert everything_of(model) == before
