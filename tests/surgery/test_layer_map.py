from __future__ import annotations

import pytest
import torch
from nets import Net, TwoNames, everything_of, images, net, seeded
from torch import nn

from polyadic.errors import DecompositionError, LayerError
from polyadic.schema import Choice
from polyadic.surgery import CP, SVD, TKDCPD, FactorCache, Tucker2, decompose_


def names_in(model: nn.Module, layers: dict[str, object]) -> list[str]:
    plan = decompose_(model, layers, images())  # type: ignore[arg-type]
    return [choice.layer for choice in plan.choices]


def test_exact_names_give_the_formats_that_they_ask_for() -> None:
    model = net()
    requests = {"head": SVD(2), "stem": CP(3, "cp-als"), "body.1": Tucker2((2, 3))}
    plan = decompose_(model, requests, images())
    assert plan.choices == (
        Choice("stem", "cp-als", (3,)),
        Choice("body.1", "tucker2", (2, 3)),
        Choice("head", "svd", (2,)),
    )
    assert [stage.out_channels for stage in model.body[1]] == [2, 3, 8]
    assert isinstance(model.point, nn.Conv2d)


def test_patterns_pass_over_what_the_format_refuses() -> None:
    assert names_in(net(), {"*": CP(2)}) == ["stem", "body.1"]
    assert names_in(net(), {"*": SVD(2)}) == ["point", "head"]
    assert names_in(net(), {"body.?": CP(2)}) == ["body.1"]
    assert names_in(net(), {"re:(stem|point)": CP(2)}) == ["stem"]


def test_the_last_key_that_matches_counts_and_none_leaves_a_layer_alone() -> None:
    assert names_in(net(), {"*": CP(2), "stem": None}) == ["body.1"]
    assert names_in(net(), {"stem": None, "*": CP(2)}) == ["stem", "body.1"]
    plan = decompose_(net(), {"*": CP(2), "re:.*1": CP(3)}, images())
    assert plan.choices == (Choice("stem", "cp-epc", (2,)), Choice("body.1", "cp-epc", (3,)))


def test_a_regular_expression_matches_whole_names() -> None:
    with pytest.raises(LayerError, match=r"\['re:ste'\] match none \(layers are stem, body.1"):
        decompose_(net(), {"re:ste": CP(2)}, images())
    with pytest.raises(LayerError, match="is not a regular expression"):
        decompose_(net(), {"re:(": CP(2)}, images())


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ({"stem": CP(2), "stm": CP(2)}, LayerError, r"\['stm'\] match none"),
        ({"stem": CP(2), "norm": None}, LayerError, r"\['norm'\] match none"),
        ({"stem": CP(2), "point": CP(2)}, LayerError, "layer 'point' cannot be factorised as cp-epc: a 1 x 1 kernel"),
        ({"stem": CP(2), "body.1": SVD(2)}, LayerError, "layer 'body.1' cannot be factorised as svd"),
        ({"stem": CP(2), "body.1": CP(0)}, LayerError, "layer 'body.1': .* out of bounds"),
        ({"stem": CP(2), "body.1": CP(10_000)}, LayerError, "layer 'body.1': .* out of bounds"),
        ({"stem": CP(2), "body.1": Tucker2()}, LayerError, "layer 'body.1': .* both or neither"),
        ({"stem": CP(2), "body.1": TKDCPD(2, (2, 2), 0.1)}, LayerError, "both or neither"),
        ({"stem": CP(2), "body.1": Tucker2(error=-1.0)}, DecompositionError, "layer 'body.1'"),
        ({"stem": CP(2), "head": SVD(2), "body.1": CP(2, "cp")}, LayerError, "a format is one of"),  # type: ignore[arg-type]
    ],
)
def test_whatever_fails_leaves_the_model_as_it_was(
    layers: dict[str, object], error: type[Exception], words: str
) -> None:
    model = net()
    before = everything_of(model)
    with pytest.raises(error, match=words):
        decompose_(model, layers, images())  # type: ignore[arg-type]
    assert everything_of(model) == before


def test_weights_that_are_not_finite_are_an_error_that_names_the_layer() -> None:
    model = net()
    with torch.no_grad():
        model.body[1].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(DecompositionError, match=r"layer 'body.1': .*NaN or Inf"):
        decompose_(model, {"*": CP(2)}, images())
    assert isinstance(model.stem, nn.Conv2d)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_at_full_rank_the_outputs_stay(dtype: torch.dtype, near: float) -> None:
    model = net().to(dtype)
    x = images(4, dtype=dtype)
    dense = model(x).detach()
    requests = {"stem": CP(18), "body.1": Tucker2((6, 8)), "point": SVD(4), "head": SVD(5)}
    plan = decompose_(model, requests, x)
    assert len(plan.choices) == 4
    after = model(x).detach()
    assert float((after - dense).norm() / dense.norm()) < near


def test_an_error_bound_decides_the_ranks() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3))).double()
    weight = model[1].weight.detach().clone()
    plan = decompose_(model, {"1": Tucker2(error=0.3)}, images(dtype=torch.float64))
    r1, r2 = plan.choices[0].rank
    assert 1 <= r1 <= 8
    assert 1 <= r2 <= 8
    first, core, last = (stage.weight.detach() for stage in model[1])
    rebuilt = torch.einsum("rs,qrhw,tq->tshw", first.flatten(1), core, last.flatten(1))
    assert float((rebuilt - weight).norm() / weight.norm()) <= 0.3 + 1e-12


def test_the_cache_serves_the_second_call(tmp_path: object) -> None:
    cache = FactorCache(tmp_path)  # type: ignore[arg-type]
    models = [net(), net()]
    for model in models:
        decompose_(model, {"*": CP(3)}, images(), cache=cache)
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in models), strict=True))


def test_a_layer_under_two_names_is_named_by_the_first() -> None:
    model = seeded(TwoNames).eval()
    decompose_(model, {"first": CP(2)}, images())
    assert model.first is model.inner["again"]


def test_training_mode_and_the_example_do_not_matter() -> None:
    model = seeded(Net).train()
    statistics = model.norm.running_mean.clone()
    decompose_(model, {"stem": CP(2)}, images())
    assert model.stem.training
    assert model.stem[0].training
    assert torch.equal(model.norm.running_mean, statistics)
