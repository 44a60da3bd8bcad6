from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import Net, TwoNames, everything_of, images, net, seeded
from torch import nn

from polyadic.errors import DecompositionError, LayerError
from polyadic.schema import Choice
from polyadic.surgery import (
    CP,
    CP4,
    SVD,
    TKDCPD,
    TT,
    FactorCache,
    LayerConfig,
    SpatialSVD,
    TTMatrix,
    Tucker2,
    decompose_,
)


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
    with pytest.raises(LayerError, match=r"\['re:ste'\] match none: did you mean 'stem'"):
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
        ({"stem": CP(2), "body.1": Tucker2()}, LayerError, "layer 'body.1': a rank is asked for by number, ratio or"),
        ({"stem": CP(2), "body.1": Tucker2((2, 2), error=0.1)}, LayerError, "layer 'body.1': a rank is asked for by"),
        ({"stem": CP(2), "body.1": CP(2, ratio=2.0)}, LayerError, "layer 'body.1': a rank is asked for by number"),
        ({"stem": CP(2), "body.1": CP(ratio=1e6)}, LayerError, "layer 'body.1': .* ask for less"),
        ({"stem": CP(2), "body.1": CP4(error=1.5)}, LayerError, "layer 'body.1': .* lies in 0"),
        ({"stem": CP(2), "body.1": TKDCPD(2, (2, 2), error=0.1)}, LayerError, "either ranks .* or a relative error"),
        ({"stem": CP(2), "body.1": TKDCPD(2, ratio=2.0)}, LayerError, "or a ratio or an error alone"),
        ({"stem": CP(2), "body.1": TKDCPD(ranks=(2, 2))}, LayerError, "takes a rank, and beside it"),
        ({"stem": CP(2), "head": SpatialSVD(2)}, LayerError, "layer 'head' cannot be factorised as spatial-svd"),
        ({"stem": CP(2), "head": TTMatrix(2, (2, 2), (4, 4))}, LayerError, "row modes multiply to T = 5 or more"),
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


def wide() -> nn.Sequential:
    """A grouped, a transposed and a grouped transposed convolution, and a plain one; float64."""

    def build() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 8, 3, groups=2),
            nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1),
            nn.ConvTranspose2d(4, 6, (3, 2), groups=2),
        )

    model = seeded(build)
    assert isinstance(model, nn.Sequential)
    return model.double().eval()


def rank_of(model: nn.Module, name: str, request: LayerConfig) -> tuple[int, ...]:
    plan = decompose_(model, {name: request}, images(dtype=torch.float64))
    return plan.choices[0].rank


def kernel_error(chain: nn.Module, layer: nn.Module) -> float:
    """Distance of a chain from the layer it replaces, by its answers to unit impulses: a bias cancels."""
    width = next(iter(layer.parameters())).shape[0] if isinstance(layer, nn.ConvTranspose2d) else layer.in_channels
    impulses = torch.zeros(width + 1, width, 7, 7, dtype=torch.float64)
    impulses[range(width), range(width), 3, 3] = 1.0
    theirs, ours = (run(impulses)[:width] - run(impulses)[width:] for run in (layer, chain))
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


REQUESTS: dict[str, Callable[..., LayerConfig]] = {
    "cp-epc": CP,
    "cp4-epc": CP4,
    "tucker2": Tucker2,
    "tkd-cpd-epc": TKDCPD,
    "spatial-svd": SpatialSVD,
    "tt": TT,
    "tt-matrix": TTMatrix,
}


@pytest.mark.parametrize("number", ["1", "2", "3"])
@pytest.mark.parametrize("name", REQUESTS)
def test_grouped_and_transposed_layers_are_factorised_within_an_error(name: str, number: str) -> None:
    model = wide()
    bound = 0.85 if "cp" in name else 0.4  # a CP of low error takes long
    layer, request = model.get_submodule(number), REQUESTS[name](error=bound)
    if name == "tt-matrix" and number != "2":
        with pytest.raises(LayerError, match="groups = 2 keep them apart"):
            decompose_(model, {number: request}, images(dtype=torch.float64))
        return
    plan = decompose_(model, {number: request}, images(dtype=torch.float64))
    assert plan.choices[0].format == name
    assert kernel_error(model.get_submodule(number), layer) <= bound + 1e-9


@pytest.mark.parametrize("name", REQUESTS)
def test_a_ratio_saves_as_many_numbers(name: str) -> None:
    model = wide()
    decompose_(model, {"2": REQUESTS[name](ratio=2.5)}, images(dtype=torch.float64))
    numbers = sum(p.numel() for p in model[2].parameters()) - 4
    assert 0.5 * 8 * 4 * 9 / 2.5 < numbers <= 8 * 4 * 9 / 2.5
    assert model(images(dtype=torch.float64)).shape == wide()(images(dtype=torch.float64)).shape


def test_ratio_and_error_serve_matrices_too() -> None:
    for request in (SVD(ratio=2.0), TTMatrix(ratio=2.0)):
        model = net()
        decompose_(model, {"head": request}, images())
        assert sum(p.numel() for p in model.head.parameters()) - 5 <= 144 * 5 / 2
    assert decompose_(net(), {"head": SVD(error=0.0)}, images()).choices[0].rank == (5,)


def test_ranks_are_those_that_were_asked_for() -> None:
    assert rank_of(wide(), "0", CP4(5)) == (5,)
    assert rank_of(wide(), "0", SpatialSVD(rank=4)) == (4,)
    assert rank_of(wide(), "0", TT((2, 3, 4))) == (2, 3, 4)
    assert rank_of(wide(), "0", TT(5)) == (3, 5, 5)
    assert rank_of(wide(), "0", Tucker2(5)) == (3, 5)
    assert rank_of(wide(), "1", Tucker2((2, 3))) == (2, 3)
    assert rank_of(wide(), "0", TKDCPD(4, (2, 3))) == (2, 3, 4)
    assert rank_of(wide(), "0", TKDCPD(4, error=0.3))[2] == 4
    assert rank_of(wide(), "0", TKDCPD(4))[2] == 4
    assert rank_of(wide(), "2", TTMatrix((4, 5))) == (4, 5)


def test_modes_of_a_matrix_train_are_part_of_the_plan() -> None:
    model = net()
    plan = decompose_(model, {"head": TTMatrix(3, (2, 3), [12, 12])}, images())
    assert plan.choices == (Choice("head", "tt-matrix[2x3,12x12]", (3,)),)
    assert [tuple(core.shape) for core in model.head[0].cores] == [(1, 2, 12, 3), (3, 3, 12, 1)]
    with pytest.raises(LayerError, match="modes for rows and columns, or for neither"):
        TTMatrix(3, row_modes=(2, 3))


def test_the_error_of_tucker_holds_for_every_group() -> None:
    model = wide()
    with torch.no_grad():
        model[1].weight[:4] = model[1].weight[:4].mean(1, keepdim=True)  # the first group has rank 1 in its inputs
    (first, rest) = model[1].weight.detach().chunk(2)
    assert rank_of(model, "1", Tucker2(error=0.2))[0] > 1
    kernels = []
    for g in range(2):
        U, G, V = (stage.weight.detach().chunk(2)[g] for stage in model[1])
        kernels.append(torch.einsum("rs,qrhw,tq->tshw", U.flatten(1), G, V.flatten(1)))
    for found, exact in zip(kernels, (first, rest), strict=True):
        assert float((found - exact).norm() / exact.norm()) <= 0.2 + 1e-12


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
