"""Several workers at one search: what one tries, another waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from subjects import faithful, images, nearly_low_rank, setup_of

import polyadic.pipeline.search as search
from polyadic.pipeline.options import CompressOptions
from polyadic.pipeline.setup import SearchSetup
from polyadic.schema import Plan
from polyadic.search import Trial, Uniform


class OtherWorker:
    """A store in which another worker is at work; it is done after we have waited ``patience`` times."""

    def __init__(self, patience: int, *, claims_first: bool = False) -> None:
        self.trials: list[Trial] = []
        self.patience = patience
        self.claims_first = claims_first
        self.theirs: Plan | None = None
        self.waits = 0
        self.events: list[str] = []

    @property
    def running(self) -> Sequence[Plan]:
        return [self.theirs] if self.theirs is not None else []

    def claim(self, plan: Plan) -> bool:
        self.events.append("claim")
        if self.claims_first and not self.trials:
            self.theirs = plan
            return False
        return True

    def add(self, trial: Trial, details: Mapping[str, Any]) -> None:
        assert "seconds" in details
        self.events.append("add")
        self.trials.append(trial)

    def release(self) -> None:
        self.events.append("release")

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


@pytest.mark.parametrize("claims_first", [True, False])
def test_a_plan_that_another_worker_tries_is_waited_for(monkeypatch: pytest.MonkeyPatch, claims_first: bool) -> None:
    store = OtherWorker(3, claims_first=claims_first)
    setup = search_beside(store, monkeypatch)
    if not claims_first:
        store.theirs = Uniform().propose(setup.space, ())
    found = search.run_search(setup)
    assert store.events == (["claim"] if claims_first else [])
    assert [trial.plan for trial in store.trials] == [found.plan]
    assert found.stop == search.COMPLETE


def test_trials_that_others_are_at_count_and_their_end_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = OtherWorker(2)
    setup = search_beside(store, monkeypatch, trials=1)
    store.theirs = Plan(())
    found = search.run_search(setup)
    assert store.events == []
    assert found.stop == "the limit of 1 trials was reached"


def test_a_claim_is_given_up_where_its_trial_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    store = OtherWorker(0)
    setup = search_beside(store, monkeypatch)

    def fails(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(setup.evaluator, "evaluate", fails)
    with pytest.raises(MemoryError):
        search.run_search(setup)
    assert store.events == ["claim", "release"]
