"""Several workers at one search: what one tries, another waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from subjects import faithful, images, nearly_low_rank

import polyadic.pipeline.search_loop as loop
from polyadic import CompressionResult, compress
from polyadic.errors import ConcludedElsewhereError
from polyadic.pipeline.options import CompressOptions
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.run import Run
from polyadic.pipeline.search_loop import searched
from polyadic.pipeline.space import Asked
from polyadic.pipeline.whole_plans import Prover
from polyadic.schema import Plan
from polyadic.search import Trial, Uniform


class OtherWorker:
    """A journal in which another worker is at work; it is done after we have waited ``patience`` times."""

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


def bench(**options: Any) -> tuple[Prover, Run]:
    net = nearly_low_rank()
    asked = Asked(budget=("macs=60%",), formats=("tucker2", "svd"))
    run = Run.begin(Round.first(net), faithful(net), images(2), asked, CompressOptions(**options), lambda _: None)
    return Prover(run.workshop), run


@pytest.mark.parametrize("claims_first", [True, False])
def test_a_plan_that_another_worker_tries_is_waited_for(monkeypatch: pytest.MonkeyPatch, claims_first: bool) -> None:
    prover, run = bench()
    journal = OtherWorker(3, claims_first=claims_first)
    if not claims_first:
        journal.theirs = Uniform().propose(run.space, ())
    monkeypatch.setattr(loop.time, "sleep", journal.wait)
    found = searched(prover, Uniform(), run.space, journal)
    assert journal.events == (["claim"] if claims_first else [])
    assert [trial.plan for trial in journal.trials] == [found.plan]
    assert found.stop == loop.COMPLETE


def test_trials_that_others_are_at_count_and_their_end_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    prover, run = bench(trials=1)
    journal = OtherWorker(2)
    journal.theirs = Plan(())
    monkeypatch.setattr(loop.time, "sleep", journal.wait)
    found = searched(prover, Uniform(), run.space, journal)
    assert journal.events == []
    assert found.stop == "the limit of 1 trials was reached"


def test_a_claim_is_given_up_where_its_trial_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    prover, run = bench()
    journal = OtherWorker(0)

    def fails(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(prover, "prove", fails)
    with pytest.raises(MemoryError):
        searched(prover, Uniform(), run.space, journal)
    assert journal.events == ["claim", "release"]


def test_one_worker_alone_carries_out_the_plan(tmp_path: Path) -> None:
    net, steps = nearly_low_rank(), []
    options = CompressOptions(search=Uniform(), storage=f"sqlite:///{tmp_path / 'study'}", work=tmp_path / "one")
    first = compress(net, faithful(net), images(2), budget=["macs=60%"], formats=("tucker2", "svd"), options=options)

    def second(**more: Any) -> CompressionResult:
        own = replace(options, work=tmp_path / "two", **more)
        judge, example = faithful(net), images(2)
        return compress(
            net, judge, example, budget=["macs=60%"], formats=("tucker2", "svd"), options=own, on_progress=steps.append
        )

    with pytest.raises(ConcludedElsewhereError, match=str(tmp_path / "one")):
        second()
    assert not [step for step in steps if step.stage == "replace"]
    assert second(resume=True).plan == first.plan
