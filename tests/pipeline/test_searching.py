"""The loop of a search: when it ends, what it ends with, and how it goes on after an interruption."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from subjects import TUNING, corner_task, faithful, images
from torch import nn

from polyadic import CompressOptions, Progress, compress
from polyadic.errors import BudgetError
from polyadic.pipeline import SearchResult, find_plan
from polyadic.schema import Budget, Plan
from polyadic.search import search_named
from polyadic.surgery import network_cost, rebuild

FORMATS = ("tucker2", "svd")


def found(net: nn.Module, search: str, *, drop: float | None = None, show: Any = None, **options: Any) -> SearchResult:
    budget = () if drop is not None else ("macs=55%",)
    known = CompressOptions(search=search_named(search), candidates_per_layer=3, **options)
    return find_plan(
        net,
        faithful(net),
        images(2),
        max_drop=drop,
        budget=budget,
        formats=FORMATS,
        options=known,
        on_progress=show or (lambda _: None),
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()[1:]]


@pytest.mark.parametrize("search", ["greedy", "frontier"])
def test_a_search_that_is_stopped_before_it_knows_anything_still_keeps_the_budget(net: nn.Module, search: str) -> None:
    stopped = found(net, search, trials=3)
    assert (stopped.trials, stopped.stop) == (3, "the limit of 3 trials was reached")
    options = CompressOptions(search=search_named(search), candidates_per_layer=3, trials=3)
    result = compress(net, faithful(net), images(2), budget=["macs=55%"], formats=FORMATS, options=options)
    assert result.plan == stopped.plan
    assert Budget.parse(["macs=55%"], stopped.dense).admits(network_cost(result.model, images(1)))
    assert result.summary.provenance["search_stop"] == stopped.stop


def test_a_search_that_is_stopped_later_takes_the_best_that_it_tried(net: nn.Module, tmp_path: Path) -> None:
    table = sum(len(line["plan"]) == 1 for line in _log_of(net, tmp_path / "all"))
    stopped = found(net, "frontier", trials=table + 4, work=tmp_path / "some")
    log = lines(tmp_path / "some")
    assert len(log) == stopped.trials == table + 4
    limit = Budget.parse(["macs=55%"], stopped.dense)
    wholes = [line for line in log if len(line["plan"]) > 1]
    best = min((line for line in wholes if limit.admits(_cost(net, line["plan"]))), key=lambda line: line["drop"])
    layers = {choice["layer"]: choice["rank"] for choice in best["plan"]}
    assert {choice.layer for choice in stopped.plan.choices} == set(layers)  # the same, topped up


def _log_of(net: nn.Module, folder: Path) -> list[dict[str, Any]]:
    found(net, "frontier", work=folder)
    return lines(folder)


def _cost(net: nn.Module, plan: object) -> Any:
    return network_cost(rebuild(copy.deepcopy(net), Plan.from_json(plan)), images(1))


def test_time_that_is_used_up_ends_a_search(net: nn.Module) -> None:
    stopped = found(net, "greedy", timeout=1e-9)
    assert (stopped.trials, stopped.stop) == (0, "the limit of 1e-09 seconds was reached")
    assert Budget.parse(["macs=55%"], stopped.dense).admits(stopped.tried.cost)
    assert found(net, "uniform", timeout=3600.0).stop == "the search had nothing left to try"


@pytest.mark.parametrize("search", ["bisection", "greedy", "uniform"])
def test_for_a_drop_there_is_no_plan_to_fall_back_on(net: nn.Module, search: str) -> None:
    with pytest.raises(BudgetError, match="the limit of 1e-09 seconds was reached"):
        found(net, search, drop=10.0, timeout=1e-9)


@pytest.mark.parametrize("search", ["uniform", "error-bound", "vbmf", "greedy", "frontier"])
def test_the_drop_before_finetuning_is_kept(net: nn.Module, search: str) -> None:
    allowed = 36.0  # recoverable x max_drop
    plan = found(net, search, drop=6.0)
    assert plan.plan.choices
    assert plan.tried.drop <= allowed
    assert plan.tried.cost.macs < plan.dense.macs


@pytest.mark.parametrize("search", ["greedy", "frontier", "bisection"])
@pytest.mark.parametrize("after", [1, 5, 9])
def test_a_search_that_is_killed_goes_on_to_the_same_plan(
    net: nn.Module, tmp_path: Path, search: str, after: int
) -> None:
    drop = 20.0 if search == "bisection" else None
    whole = found(net, search, drop=drop, work=tmp_path / "whole")

    def kill(step: Progress) -> None:
        if step.stage == "search" and step.done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(net, search, drop=drop, work=tmp_path / "killed", show=kill)
    log = tmp_path / "killed" / "trials.jsonl"
    assert len(lines(log.parent)) == after
    log.write_bytes(log.read_bytes() + b'{"trial": 9, "plan": [{"lay')
    again = found(net, search, drop=drop, work=tmp_path / "killed", resume=True)
    assert again.tried == whole.tried
    assert again.front == whole.front
    for mine, other in zip(lines(tmp_path / "killed"), lines(tmp_path / "whole"), strict=True):
        assert {**mine, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("search", ["frontier", "error-bound"])
def test_a_compression_takes_over_the_trials_of_a_search(net: nn.Module, tmp_path: Path, search: str) -> None:
    known: dict[str, Any] = {"budget": ["macs=60%"], "formats": FORMATS}
    options = CompressOptions(search=search_named(search), candidates_per_layer=3, work=tmp_path)
    plan = find_plan(net, corner_task(), **known, options=options)
    log = (tmp_path / "trials.jsonl").read_bytes()
    resumed = CompressOptions(search=search_named(search), candidates_per_layer=3, work=tmp_path, resume=True)
    result = compress(net, replace(corner_task(), network=TUNING), **known, options=resumed)
    assert result.plan == plan.plan
    assert (tmp_path / "trials.jsonl").read_bytes() == log


def test_two_workers_share_their_trials_in_a_study(net: nn.Module, tmp_path: Path) -> None:
    storage, steps = f"journal:///{tmp_path}/study.log", list[Progress]()
    first = found(net, "greedy", storage=storage)
    second = found(net, "greedy", storage=storage, show=steps.append)
    assert second.tried == first.tried
    assert second.trials == first.trials > 0
    assert [step for step in steps if step.stage == "search"] == []
    assert first.plan == found(net, "greedy").plan


def test_the_front_holds_what_no_other_beats(net: nn.Module, tmp_path: Path) -> None:
    plan = found(net, "greedy", drop=6.0, work=tmp_path)
    tried = {json.dumps(line["plan"]): line["drop"] for line in lines(tmp_path) if len(line["plan"]) > 1}
    macs = {text: _cost(net, json.loads(text)).macs for text in tried}
    beaten = {
        text
        for text in tried
        if any(
            macs[other] <= macs[text] and drop <= tried[text] and (macs[other], drop) != (macs[text], tried[text])
            for other, drop in tried.items()
        )
    }
    expected = {(macs[text], tried[text]) for text in set(tried) - beaten}
    assert {(one.cost.macs, one.drop) for one in plan.front} == expected
    assert len(expected) > 1
    assert [one.cost.macs for one in plan.front] == sorted(one.cost.macs for one in plan.front)
