"""Which ranks are left once an engine has been asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from fake_engine import FakeEngine, fake_model
from polyadic.errors import BudgetError
from polyadic.formats import format_named
from polyadic.pipeline import CompressOptions
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import time_candidates
from polyadic.schema import ConvSpec, LayerSite
from polyadic.search import RankCandidates, search_named

SPEC = ConvSpec(20, 24)
SVD = format_named("svd")


def site(*calls: tuple[int, ...]) -> LayerSite:
    return LayerSite("fc", "Linear", SPEC, calls)


def candidates_of(layer: LayerSite, most: int = 10) -> RankCandidates:
    assert layer.spec is not None
    ranks = tuple((rank,) for rank in range(1, most + 1))
    macs = tuple(layer.chain_macs(SVD.stages(layer.spec, rank)) for rank in ranks)
    return RankCandidates(layer.name, "svd", ranks, macs, layer.macs, (), 0)


def left(
    layer: LayerSite,
    time_of: Callable[[nn.Module, Tensor], float] | None = None,
    points: int = 4,
    *,
    faster: bool = True,
    beside: LayerSite | None = None,
) -> tuple[RankCandidates | None, dict[str, str]]:
    engine = FakeEngine(time_of) if time_of is not None else FakeEngine()
    options = CompressOptions(latency=fake_model(engine), candidates_per_layer=points, require_speedup=faster)
    target = Target(None, None, search_named("uniform"), ("svd",))
    layers = [layer] if beside is None else [layer, beside]
    found, refused = time_candidates(tuple(map(candidates_of, layers)), layers, target, options, lambda _: None)
    return next((one for one in found if one.layer == layer.name), None), refused


def test_ranks_between_measured_ones_take_what_lies_between_and_say_so() -> None:
    layer = site((3,))
    found, refused = left(layer, faster=False)
    assert found is not None
    assert refused == {}
    assert found.ranks == candidates_of(layer).ranks
    assert sum(found.measured) == 4
    assert found.measured[0]
    assert found.measured[-1]
    saved = [(layer.macs - macs) / 10_000 for macs in found.macs]  # the fake engine's times are linear in the MACs
    assert [found.saved(at, "latency") for at in range(10)] == pytest.approx(saved)


def test_a_layer_that_is_called_twice_takes_twice_the_time() -> None:
    once, _ = left(site((3,)))
    twice, _ = left(site((3,), (3,)))
    mixed, _ = left(site((3,), (6,)))
    assert once is not None
    assert twice is not None
    assert mixed is not None
    assert twice.times == pytest.approx([2 * time for time in once.times])
    assert mixed.saved(0, "latency") == pytest.approx(3 * once.saved(0, "latency"))


@pytest.mark.parametrize(("saving", "offered"), [(0.02, False), (0.05, True), (-0.1, False)])
def test_less_than_the_margin_is_not_worth_a_layer(saving: float, offered: bool) -> None:
    def nearly_flat(layer: nn.Module, outputs: Tensor) -> float:
        if layer.get_parameter("weight").shape == (48, 40):
            return 100.0
        is_dense = layer.get_parameter("weight").shape == (24, 20)
        return 10.0 if is_dense else 5.0 - 5.25 * saving  # the call, 0.5 ms, is part of the layer's time

    wide = LayerSite("wide", "Linear", ConvSpec(40, 48), ((3,),))
    found, refused = left(site(()), nearly_flat, beside=wide)
    assert (found is not None) == offered
    assert refused == ({} if offered else {"fc": "no block of the formats was faster on fake at batch 1"})
    if not offered:
        with pytest.raises(BudgetError, match="no layer can be made faster by svd on fake"):
            left(site(()), nearly_flat)
    every, _ = left(site(()), nearly_flat, faster=False)
    assert every is not None
    assert len(every.ranks) == 10


def test_of_ranks_that_take_equally_long_the_largest_is_left() -> None:
    def flat(layer: nn.Module, outputs: Tensor) -> float:
        return 10.0 if layer.get_parameter("weight").shape == (24, 20) else 2.0

    found, _ = left(site(()), flat)
    assert found is not None
    assert found.ranks == ((10,),)
