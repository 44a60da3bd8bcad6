from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyadic.errors import BudgetError
from polyadic.schema import Budget, Cost

DENSE = Cost(params=1_000_000, macs=40_000_000, bytes=4_000_000, latency=8.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs=50%", Budget(macs=20_000_000)),
        ("macs=12.5 %", Budget(macs=5_000_000)),
        ("macs=2.5x", Budget(macs=16_000_000)),
        ("macs = 4X", Budget(macs=10_000_000)),
        ("params=200k", Budget(params=200_000)),
        ("params=.5M", Budget(params=500_000)),
        ("params=1234", Budget(params=1234)),
        ("params=150%", Budget(params=1_500_000)),
        ("macs=1.5G", Budget(macs=1_500_000_000)),
        ("macs=2T", Budget(macs=2_000_000_000_000)),
        ("bytes=1MB", Budget(bytes=1_000_000)),
        ("bytes=1MiB", Budget(bytes=1_048_576)),
        ("bytes=64kib", Budget(bytes=65_536)),
        ("bytes=300B", Budget(bytes=300)),
        ("bytes=3M", Budget(bytes=3_000_000)),
        ("latency=2ms", Budget(latency=2.0)),
        ("latency=.5 MS", Budget(latency=0.5)),
        ("latency=1500us", Budget(latency=1.5)),
        ("latency=0.25s", Budget(latency=250.0)),
        ("latency=75%", Budget(latency=6.0)),
        ("latency = 2.5x", Budget(latency=3.2)),
    ],
)
def test_limits_are_read_as_people_write_them(text: str, expected: Budget) -> None:
    assert Budget.parse([text], DENSE) == expected


def test_several_limits_hold_at_once() -> None:
    budget = Budget.parse(["macs=50%", "params=200k"], DENSE)
    assert budget == Budget(params=200_000, macs=20_000_000)
    assert budget.limits == {"params": 200_000, "macs": 20_000_000}
    assert str(budget) == "params <= 200,000, macs <= 20,000,000"
    assert budget.admits(Cost(200_000, 20_000_000, 10**12))
    assert not budget.admits(Cost(200_001, 20_000_000, 0))
    assert not budget.admits(Cost(0, 20_000_001, 0))
    assert budget.use(Cost(100_000, 30_000_000, 0)) == 1.5


def test_without_limits_everything_is_admitted() -> None:
    assert Budget.parse([], DENSE) == Budget()
    assert Budget().admits(Cost(10**12, 10**12, 10**12))
    assert str(Budget()) == ""


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["flops=50%"], "a budget is macs=..., params=..., bytes=... or latency=...; got 'flops=50%'"),
        (["50%"], "a budget is macs="),
        (["=50%"], "a budget is macs="),
        (["macs"], "a limit is written 50%"),
        (["macs=half"], "a limit is written 50%"),
        (["macs=-5%"], "a limit is written 50%"),
        (["macs=1e6"], "a limit is written 50%"),
        (["macs=5%%"], "a limit is written 50%"),
        (["macs=1,000"], "a limit is written 50%"),
        (["params=1MB"], "params are counted in numbers"),
        (["macs=3 B"], "macs are counted in numbers"),
        (["params=1Mi"], "a limit is written 50%"),
        (["bytes=1i"], "a limit is written 50%"),
        (["macs=0"], "a limit is at least 1; got 'macs=0'"),
        (["macs=0x"], "a limit is at least 1"),
        (["params=0.00001%"], "a limit is at least 1"),
        (["macs=50%", "macs=2x"], "a budget names each cost once; got macs twice"),
        (["latency=2"], "a limit of latency is written 2ms, 500us, 0.1s, 50% or 2x; got 'latency=2'"),
        (["latency=2min"], "a limit of latency is written"),
        (["latency=0ms"], "a limit of latency is above 0"),
        (["latency=0x"], "a limit of latency is above 0"),
    ],
)
def test_what_cannot_be_read_is_said(texts: list[str], message: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(texts, DENSE)
    assert message in str(caught.value)


def test_latency_is_limited_where_it_is_known() -> None:
    budget = Budget.parse(["latency=2x", "macs=50%"], DENSE)
    assert budget.use(Cost(0, 10_000_000, 0, latency=5.0)) == 1.25
    assert budget.admits(Cost(0, 10_000_000, 0, latency=4.0))
    assert str(budget) == "macs <= 20,000,000, latency <= 4 ms"
    with pytest.raises(BudgetError, match="a limit of latency is for networks that an engine has run"):
        budget.admits(Cost(0, 0, 0))
    with pytest.raises(BudgetError, match="latency is the time on an engine: name one"):
        Budget.parse(["latency=2ms"], Cost(1, 1, 1))


@given(st.floats(1.0, 1e3, allow_nan=False))
def test_a_share_and_so_many_times_fewer_are_the_same(times: float) -> None:
    by_times = Budget.parse([f"macs={times:.6f}x"], DENSE).macs
    by_share = Budget.parse([f"macs={100 / times:.12f}%"], DENSE).macs
    assert by_times is not None
    assert by_share is not None
    assert abs(by_times - by_share) <= 2 + 1e-5 * by_times


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("macs=5", "leaves 5 of 40,000,000 macs: did you mean macs=5%, or macs=5k or M?"),
        ("macs=0.05k", "leaves 50 of 40,000,000 macs: did you mean macs=5%?"),
        ("params=.00002M", "leaves 20 of 1,000,000 params: did you mean params=0.002%?"),
        ("bytes=50B", "leaves 50 of 4,000,000 bytes: did you mean bytes=50%?"),
        ("bytes=0.05kiB", "leaves 51.2 of 4,000,000 bytes: did you mean bytes=5%?"),
    ],
)
def test_a_limit_that_no_network_keeps_is_taken_for_a_slip(text: str, meant: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse([text], DENSE)
    assert meant in str(caught.value)


def test_a_small_network_may_have_a_small_limit() -> None:
    tiny = Cost(params=500, macs=5000, bytes=2000)
    assert Budget.parse(["macs=0.06k", "params=.05k"], tiny) == Budget(macs=60, params=50)
