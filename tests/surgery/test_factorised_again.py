"""A factorised network is factorised once more, and rebuilt from the dense structure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from nets import TwoNames, everything_of, images, net, seeded
from safetensors.torch import load_file, save_file
from torch import nn

from polyadic.errors import LayerError
from polyadic.schema import Choice, Plan
from polyadic.surgery import SVD, Tucker2, decompose_, find_layers, plan_stages, rebuild

FIRST = {"body.1": Tucker2((4, 6)), "head": SVD(5)}
SECOND = {"body.1.1": Tucker2((3, 4)), "head.0": SVD(2), "stem": Tucker2((2, 3))}


def twice() -> tuple[nn.Module, Plan]:
    """A Net factorised in two rounds, and the plan of both."""
    model = net().double()
    first = decompose_(model, FIRST, images(dtype=torch.float64))
    second = decompose_(model, SECOND, images(dtype=torch.float64))
    return model, Plan((*first.choices, *second.choices))


def test_the_stages_of_a_chain_are_layers_like_others() -> None:
    model = net().double()
    decompose_(model, FIRST, images(dtype=torch.float64))
    sites = {site.name: site for site in find_layers(model, images(dtype=torch.float64))}
    assert list(sites) == ["stem", "body.1.0", "body.1.1", "body.1.2", "point", "head.0", "head.1"]
    assert {site.reason for site in sites.values()} == {None}
    assert sites["body.1.1"].macs == 4 * 6 * 9 * 36


def test_a_second_round_at_full_rank_changes_nothing() -> None:
    model = net().double()
    x = images(4, dtype=torch.float64)
    decompose_(model, FIRST, x)
    once = model(x).detach()
    decompose_(model, {"body.1.1": Tucker2((4, 6)), "body.1.0": SVD(4), "head.1": SVD(5)}, x)
    torch.testing.assert_close(model(x).detach(), once, rtol=0, atol=1e-10)


def test_the_plan_of_both_rounds_rebuilds_it_from_the_dense_structure(tmp_path: Path) -> None:
    model, plan = twice()
    assert [choice.layer for choice in plan.choices] == ["body.1", "head", "stem", "body.1.1", "head.0"]
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other = rebuild(net(seed=1).double(), Plan.from_json(json.loads(json.dumps(plan.to_json()))))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    x = images(4, seed=2, dtype=torch.float64)
    assert torch.equal(other(x), model(x))
    assert [name for name, _ in other.named_modules()] == [name for name, _ in model.named_modules()]


def test_the_stages_of_the_plan_are_those_of_the_network() -> None:
    model, plan = twice()
    stages = plan_stages(net(), plan)
    assert list(stages) == ["body.1", "head", "stem", "body.1.1", "head.0"]
    assert [stage.kernel for stage in stages["body.1.1"]] == [(1, 1), (3, 3), (1, 1)]
    assert [stage.bias for stage in stages["body.1"]] == [False, False, True]
    assert [stage.bias for stage in stages["body.1.1"]] == [False, False, False]
    replaced = {"body.1.1", "head.0"}
    params = {
        f"{layer}.{n}": stage.params
        for layer, chain in stages.items()
        for n, stage in enumerate(chain)
        if f"{layer}.{n}" not in replaced
    }
    assert params == {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in params}


def test_a_third_round_goes_on_from_there() -> None:
    model, plan = twice()
    third = decompose_(model, {"body.1.1.1": Tucker2((2, 2))}, images(dtype=torch.float64))
    other = rebuild(net().double(), Plan((*plan.choices, *third.choices)))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images(dtype=torch.float64)), model(images(dtype=torch.float64)))


def test_a_shared_layer_is_rebuilt_twice_over() -> None:
    model, other = seeded(TwoNames).eval(), seeded(TwoNames, seed=1).eval()
    first = decompose_(model, {"first": Tucker2((3, 3))}, images())
    second = decompose_(model, {"first.1": Tucker2((2, 2))}, images())
    rebuild(other, Plan((*first.choices, *second.choices)))
    assert other.first is other.inner["again"]
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images()), model(images()))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([("body.1.1", "svd", 1), ("body.1", "tucker2", (2, 2))], "has no layer 'body.1.1'"),
        ([("body.1", "tucker2", (2, 2)), ("body.1.3", "svd", 1)], "chain of 'body.1' has 3 stages, numbered from 0"),
        ([("body.1", "tucker2", (2, 2)), ("body.1.x", "svd", 1)], "got 'body.1.x'"),
        ([("body.1", "tucker2", (2, 2)), ("body.1.-1", "svd", 1)], "got 'body.1.-1'"),
        ([("body.1", "tucker2", (2, 2)), ("body.1.1", "svd", 1)], "cannot be used here"),
        ([("body.1", "tucker2", (2, 2)), ("body.1.1", "tucker2", (3, 2))], "out of bounds"),
        ([("body.1", "tucker2", (2, 2)), ("body.1.0.0", "svd", 1)], "has no layer 'body.1.0.0'"),
    ],
)
def test_a_plan_that_does_not_fit_changes_nothing(choices: list[tuple[str, str, object]], words: str) -> None:
    model = net()
    before = everything_of(model)
    plan = Plan.from_json([{"layer": layer, "format": fmt, "rank": rank} for layer, fmt, rank in choices])
    with pytest.raises(LayerError, match=words):
        rebuild(model, plan)
    assert everything_of(model) == before


def test_a_plan_still_names_no_layer_twice() -> None:
    with pytest.raises(LayerError, match="at most once"):
        Plan((Choice("a", "svd", (1,)), Choice("a.0", "svd", (1,)), Choice("a", "svd", (2,))))
