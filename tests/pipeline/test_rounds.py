"""Compression in rounds: factorise, fine-tune, factorise further."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import TUNING, corner_task, faithful, images, nearly_low_rank, setup_of
from torch import nn

from disks import files_in
from polyadic import CompressionResult, CompressOptions, Progress, compress
from polyadic.data import load_data
from polyadic.errors import BudgetError, PolyadicError
from polyadic.export import load, save
from polyadic.models import load_model
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.target import Target
from polyadic.schema import Budget, Choice, Cost, Plan
from polyadic.search import search_named
from polyadic.surgery import network_cost, rebuild
from polyadic.training import Execution, ImageTask

FORMATS = ("tucker2", "svd")
TARGET = ("macs=30%",)


class Killed(BaseException):
    """As a kill: nothing catches it."""


def in_rounds(net: nn.Module, rounds: int, search: str = "uniform", **more: Any) -> CompressionResult:
    show = more.pop("show", lambda _: None)
    task = more.pop("task", corner_task(tuned=True))
    budget = more.pop("budget", TARGET)
    options = CompressOptions(search=search_named(search), candidates_per_layer=3, **more)
    return compress(net, task, budget=budget, formats=FORMATS, rounds=rounds, options=options, on_progress=show)


@pytest.mark.parametrize("search", ["uniform", "vbmf", "frontier", "error-bound"])
def test_every_round_keeps_its_part_of_the_budget_and_the_last_one_all_of_it(net: nn.Module, search: str) -> None:
    result = in_rounds(net, 3, search)
    rounds = result.summary.provenance["rounds"]
    macs, dense = [said["macs"] for said in rounds], result.summary.dense.macs
    assert macs == sorted(macs, reverse=True)
    for number, cost in enumerate(macs, start=1):
        assert cost <= dense * 0.3 ** (number / 3), "the same factor in each"
    assert macs[0] > 0.5 * dense
    assert result.summary.compressed == network_cost(result.model, images(1))
    assert result.summary.compressed.macs == macs[-1]
    assert result.summary.dense == network_cost(net, images(1))


def test_the_plan_of_all_rounds_rebuilds_the_network(net: nn.Module, tmp_path: Path) -> None:
    result = in_rounds(net, 2, "frontier")
    assert len({choice.layer for choice in result.plan.choices}) == len(result.plan.choices)
    save(result, tmp_path)
    again = load(tmp_path, copy.deepcopy(net))
    assert torch.equal(again(images()), result.model(images()))
    for layer in result.summary.layers:
        choice = result.plan.of(layer.name)
        assert (layer.status == "factorised") == (choice is not None)
        if choice is not None:
            assert layer.format == choice.format


def test_a_layer_that_a_round_leaves_alone_keeps_its_chain_to_the_bit(net: nn.Module) -> None:
    plan = Plan((Choice("stem", "tucker2", (2, 4)), Choice("head", "svd", (2,))))
    network = rebuild(copy.deepcopy(net), plan)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    stage = Round(net, 2, 2, network, plan)
    setup = setup_of(stage, corner_task(), budget=TARGET, formats=FORMATS)
    torch.testing.assert_close(setup.evaluator.dense(images()), network(images()), rtol=1e-4, atol=1e-3)
    for next_plan in (Plan(), Plan((Choice("deep.1", "tucker2", (3, 3)),))):
        carried, _ = setup.evaluator.apply(next_plan)
        for name in ("stem", "head"):
            for key, value in network.get_submodule(name).state_dict().items():
                assert torch.equal(carried.get_submodule(name).state_dict()[key], value), (name, key)
    assert setup.space.dense == network_cost(network, images(1))
    for candidates in setup.space.candidates:
        assert max(candidates.macs) < candidates.dense_macs
    carried, _ = setup.evaluator.apply(Plan((Choice("stem", "tucker2", (1, 2)),)))
    merged = stage.whole_plan(Plan((Choice("stem", "tucker2", (1, 2)),)))
    assert [choice.rank for choice in merged.choices] == [(1, 2), (2,)]
    assert setup.space.cost(Plan((Choice("stem", "tucker2", (1, 2)),))) == network_cost(carried, images(1))


def test_one_round_is_the_ordinary_compression(net: nn.Module) -> None:
    options = CompressOptions(search=search_named("uniform"), candidates_per_layer=3)
    ordinary = compress(net, corner_task(tuned=True), budget=TARGET, formats=FORMATS, options=options)
    one = in_rounds(net, 1)
    assert "rounds" not in one.summary.provenance
    assert one.plan == ordinary.plan
    assert all(torch.equal(one.model.state_dict()[k], v) for k, v in ordinary.model.state_dict().items())


def test_epochs_are_divided_among_the_rounds() -> None:
    task = replace(corner_task(), network=replace(TUNING, epochs=10))
    for rounds, expected in ((1, [10]), (3, [3, 3, 4]), (4, [2, 3, 2, 3]), (12, [1] * 12)):
        shares = [task.share(number, rounds).network.epochs for number in range(1, rounds + 1)]  # type: ignore[union-attr]
        assert shares == expected
    assert corner_task().share(1, 3).network is None


def test_a_run_that_is_killed_in_any_round_ends_like_one_that_was_not(net: nn.Module, tmp_path: Path) -> None:
    stages: list[str] = []
    whole = in_rounds(net, 3, work=tmp_path / "whole", show=lambda p: stages.append(p.stage))
    named = list(dict.fromkeys(stages))
    assert named == [f"{stage} {n}/3" for n in (1, 2, 3) for stage in ("search", "replace", "finetune")]

    def kill_at(moment: str) -> Any:
        def show(progress: Progress) -> None:
            if progress.stage == moment:
                raise Killed

        return show

    out = tmp_path / "out"
    for moment in ("replace 1/3", "search 2/3", "finetune 2/3", "finetune 3/3"):
        with pytest.raises(Killed):
            in_rounds(net, 3, work=out, resume=out.exists(), show=kill_at(moment))
    ended = {f"round-{number}/{name}" for number in (1, 2) for name in ("trials.jsonl", "network.pt")}
    assert files_in(out) == {"trials.jsonl", ".finetune.pt", *ended}
    seen: list[str] = []
    result = in_rounds(net, 3, work=out, resume=True, show=lambda p: seen.append(p.stage))
    assert not [stage for stage in seen if not stage.endswith("3/3")], "rounds that had ended are not done again"
    assert result.plan == whole.plan
    assert all(torch.equal(result.model.state_dict()[k], v) for k, v in whole.model.state_dict().items())
    first, second = (r.summary.provenance["rounds"][:2] for r in (whole, result))
    assert [said["macs"] for said in first] == [said["macs"] for said in second]
    assert result.summary.layers == whole.summary.layers


def test_a_round_of_other_options_is_not_taken_for_this_one(net: nn.Module, tmp_path: Path) -> None:
    in_rounds(net, 2, work=tmp_path)
    more = replace(corner_task(tuned=True), network=replace(TUNING, epochs=4))
    stages: list[str] = []
    with contextlib.suppress(PolyadicError):  # the trials of the second round belong to another network, if it is one
        in_rounds(net, 2, work=tmp_path, resume=True, task=more, show=lambda p: stages.append(p.stage))
    assert "finetune 1/2" in stages, "the first round is trained for longer, so its end is another"


def test_the_budget_of_a_round_lies_on_the_way() -> None:
    dense, target = Cost(params=1000, macs=8000, bytes=4000, latency=2.7), Budget(macs=1000, params=900, latency=0.1)
    goal = Target(None, target, search_named("frontier"), FORMATS)
    limits = [goal.of_round(number, 3, dense).budget for number in (1, 2, 3)]
    assert [limit.macs for limit in limits if limit] == pytest.approx([4000, 2000, 1000], abs=1)
    assert [limit.latency for limit in limits if limit] == pytest.approx([0.9, 0.3, 0.1])
    assert limits[2] == target
    assert replace(goal, budget=None).of_round(1, 3, dense).budget is None


def test_a_budget_out_of_reach_is_refused_before_the_first_round(net: nn.Module) -> None:
    with pytest.raises(BudgetError, match=r"the budget is macs <= 192; with every layer at its lowest rank"):
        in_rounds(net, 4, budget=("macs=0.5%",), show=lambda _: pytest.fail("begun"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"rounds": 0}, "rounds are a whole number from 1 up; got 0"),
        ({"rounds": 2, "budget": ()}, "rounds share the way to a budget"),
        ({"rounds": 2, "plan": Plan((Choice("head", "svd", (1,)),))}, "a plan is carried out in one round"),
    ],
)
def test_what_cannot_be_done_in_rounds(net: nn.Module, more: dict[str, Any], words: str) -> None:
    with pytest.raises(BudgetError, match=words):
        compress(net, lambda _: pytest.fail("scored"), images(1), **{"max_drop": 1.0, "budget": TARGET, **more})


def test_rounds_with_a_score_alone_train_nothing() -> None:
    net = nearly_low_rank()
    options = CompressOptions(search=search_named("uniform"))
    result = compress(net, faithful(net), images(2), budget=TARGET, formats=FORMATS, rounds=2, options=options)
    assert result.summary.provenance["finetuning_stop"] == "not fine-tuned"
    assert result.summary.held_out["dense"] == pytest.approx(1.0)
    assert len(result.summary.provenance["rounds"]) == 2


def test_digits_in_two_rounds() -> None:
    data = load_data("digits")
    dense = load_model("polyadic:digits-cnn").model
    tuning = replace(TUNING, epochs=2, batch_size=64)
    task = ImageTask(data, layer=None, network=tuning, training=Execution.for_evaluation())
    options = CompressOptions(search=search_named("vbmf"), data_aware=False)
    result = compress(dense, task, budget=["macs=40%"], formats=("tucker2", "svd"), rounds=2, options=options)
    assert Budget.parse(["macs=40%"], result.summary.dense).admits(result.summary.compressed)
    rounds = result.summary.provenance["rounds"]
    assert rounds[1]["layers"], "the second round factorises what the first one has"
    assert set(rounds[1]["layers"]) & set(rounds[0]["layers"])
