"""Several workers at one search: what one tries, another waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from subjects import faithful, images, nearly_low_rank, setup_of

import polyadic.pipeline.search as search
from polyadic.pipeline.options import CompressOptions
from polyadic.pipeline.setup import SearchSetup
from polyadic.schema import Plan
from polyadic.search import Evaluate, Trial, Uniform


class OtherWorker:
    """A store in which another worker is at work; it is done after we have waited ``patience`` times."""

    def __init__(self, patience: int, *, is_quicker: bool = False) -> None:
        self.trials: list[Trial] = []
        self.patience = patience
        self.is_quicker = is_quicker
        self.theirs: Plan | None = None
        self.waits = 0
        self.proposed: list[Plan] = []

    @property
    def running(self) -> Sequence[Plan]:
        return [self.theirs] if self.theirs is not None else []

    def run_trial(self, plan: Plan | None, evaluate: Evaluate) -> Trial | None:
        if plan is None:
            return None
        self.proposed.append(plan)
        if self.is_quicker and not self.trials:
            self.theirs = plan
            return None
        trial, details = evaluate(plan)
        assert "seconds" in details
        self.trials.append(trial)
        return trial

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits += 1
        assert self.waits <= self.patience, "we wait for nobody"
        if self.waits == self.patience and self.theirs is not None:
            self.trials.append(Trial(self.theirs, 1.0, joint=True))
            self.theirs = None


def search_beside(store: OtherWorker, monkeypatch: pytest.MonkeyPatch, **options: Any) -> SearchSetup:
    net = nearly_low_rank()
    setup = setup_of(net, faithful(net), images(2), options=CompressOptions(search=Uniform(), **options))
    monkeypatch.setattr(search.time, "sleep", store.wait)
    return replace(setup, trials=store)


@pytest.mark.parametrize("is_quicker", [True, False])
def test_a_plan_that_another_worker_tries_is_waited_for(monkeypatch: pytest.MonkeyPatch, is_quicker: bool) -> None:
    store = OtherWorker(3, is_quicker=is_quicker)
    setup = search_beside(store, monkeypatch)
    if not is_quicker:
        store.theirs = Uniform().propose(setup.space, ())
    found = search.run_search(setup)
    assert len(store.proposed) == is_quicker
    assert [trial.plan for trial in store.trials] == [found.plan]
    assert found.stop == search.COMPLETE


def test_trials_that_others_are_at_count_and_their_end_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = OtherWorker(2)
    setup = search_beside(store, monkeypatch, trials=1)
    store.theirs = Plan(())
    found = search.run_search(setup)
    assert store.proposed == []
    assert found.stop == "the limit of 1 trials was reached"


def test_what_the_whole_network_loses_is_tried_by_one_worker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = OtherWorker(2, is_quicker=True)
    setup = search_beside(store, monkeypatch)
    plan = Uniform().propose(setup.space, ())
    assert plan is not None
    assert search._joint_drop(setup, plan) == 1.0, "the outcome of the other worker"
    assert store.proposed == [plan]
    assert search._joint_drop(setup, plan) == 1.0
    assert store.proposed == [plan]


def test_an_error_in_a_trial_is_raised_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    store = OtherWorker(0)
    setup = search_beside(store, monkeypatch)

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(setup.evaluator, "evaluate", fails)
    with pytest.raises(MemoryError):
        search.run_search(setup)
    assert store.trials == []
