"""Trials in an Optuna study that several workers share."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from toys import searched, toy, trial_of, work
from workers import FORK, INTERVAL, RUN, open_study, space, start_worker

from polyadic.errors import PolyadicError, StorageError
from polyadic.schema import Budget, Choice, Plan
from polyadic.search import PARS, SEARCHES, Frontier, StudyLog, Trial, TrialLog, TrialStore, search_named
from polyadic.search.study_storage import close_storage, hide_password, open_storage

QUIET = 3  # seconds without a heartbeat after which a worker of this process counts as dead

TRIALS = [
    Trial(Plan((Choice("layer0", "svd", (3,)),)), 0.25, final=False),
    Trial(Plan((Choice("layer1", "svd", (2,)),)), -1.0, joint=True, divergence=0.125),
    Trial(Plan((Choice("layer0", "svd", (1,)), Choice("layer2", "svd", (2,)))), math.inf, joint=True),
]


@contextlib.contextmanager
def study_at(url: str) -> Iterator[optuna.Study]:
    """The study as Optuna's own tools see it."""
    storage = open_storage(url)
    yield optuna.load_study(study_name="polyadic", storage=storage)
    close_storage(storage)


def states_at(url: str) -> Counter[str]:
    with study_at(url) as study:
        return Counter(one.state.name for one in study.get_trials())


def keep(store: TrialStore, trial: Trial, **details: Any) -> None:
    """Try one plan, with this outcome."""
    _ = store.running
    assert store.run_trial(trial.plan, lambda _: (trial, details)) == trial


def test_trials_come_back_as_they_were_with_their_details_and_shares(url: str) -> None:
    store = open_study(url)
    assert (store.trials, store.running) == ([], [])
    for trial in TRIALS:
        keep(store, trial, seconds=0.5, interval=(0.1, 0.2))
        assert store.running == []
    assert open_study(url).trials == store.trials == TRIALS
    with study_at(url) as study:
        first, second, third = study.get_trials()
    assert [one.state.name for one in (first, second, third)] == ["COMPLETE"] * 3
    assert (first.value, second.value, third.value) == (0.25, 0.125, math.inf)
    assert third.params == pytest.approx({"layer0": 1 / 6, "layer1": 1.0, "layer2": 2 / 6, "layer3": 1.0}, abs=1e-3)
    assert (first.user_attrs["seconds"], first.user_attrs["drop"], first.user_attrs["joint"]) == (0.5, 0.25, False)


def test_a_plan_is_seen_by_the_others_while_it_is_tried_and_whoever_was_slower_proposes_anew(url: str) -> None:
    one, two = open_study(url), open_study(url)
    first, second = TRIALS[:2]

    def meanwhile(_: Plan) -> tuple[Trial, dict[str, Any]]:
        assert one.running == [first.plan]
        assert not two.run_trial(first.plan, lambda _: pytest.fail("both have proposed it")), (
            "two looked before one ran"
        )
        assert two.running == [first.plan]
        keep(two, second)
        return first, {}

    assert (one.running, two.running) == ([], [])
    assert one.run_trial(first.plan, meanwhile)
    assert one.running == two.running == []
    assert one.trials == two.trials == [first, second]
    assert not two.run_trial(None, lambda _: pytest.fail("there is nothing to do"))
    assert states_at(url) == {"COMPLETE": 2, "PRUNED": 1}


def test_an_evaluation_that_fails_is_raised_as_it_is_and_its_plan_is_free(url: str) -> None:
    store = open_study(url)

    def fails(_: Plan) -> tuple[Trial, dict[str, Any]]:
        raise OSError("an image is damaged")

    _ = store.running
    with pytest.raises(OSError, match=r"^an image is damaged$"):
        store.run_trial(TRIALS[0].plan, fails)
    assert (store.trials, store.running) == ([], [])
    keep(store, TRIALS[0])
    assert open_study(url).trials == TRIALS[:1]


def test_the_plan_of_a_worker_that_fell_silent_is_tried_again_and_its_late_trial_is_dropped(
    url_to_wait_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, other = open_study(url_to_wait_at, grace=QUIET), open_study(url_to_wait_at, grace=QUIET)
    began = time.monotonic()

    def falls_silent(_: Plan) -> tuple[Trial, dict[str, Any]]:
        monkeypatch.setattr(silent._storage, "record_heartbeat", lambda _: None)
        while other.running == [TRIALS[0].plan] and not other.run_trial(None, lambda _: (TRIALS[0], {})):
            assert time.monotonic() - began < 30
            time.sleep(0.1)
        return replace(TRIALS[0], drop=99.0), {}

    _ = silent.running
    assert silent.run_trial(TRIALS[0].plan, falls_silent)
    assert time.monotonic() - began > QUIET
    assert silent.trials == other.trials == TRIALS[:1]
    assert silent.running == other.running == []
    assert states_at(url_to_wait_at) == {"COMPLETE": 1, "FAIL": 1}


def test_a_worker_that_lives_is_waited_for_however_long_it_takes(url_to_wait_at: str) -> None:
    slow, other = open_study(url_to_wait_at, grace=QUIET), open_study(url_to_wait_at, grace=QUIET)

    def takes_its_time(_: Plan) -> tuple[Trial, dict[str, Any]]:
        until = time.monotonic() + QUIET + 2 * INTERVAL
        while time.monotonic() < until:
            assert other.running == [TRIALS[0].plan]
            assert not other.run_trial(None, lambda _: pytest.fail("somebody is at it"))
            time.sleep(0.3)
        return TRIALS[0], {}

    _ = slow.running
    assert slow.run_trial(TRIALS[0].plan, takes_its_time)
    assert other.trials == TRIALS[:1]


@pytest.mark.slow
def test_a_killed_worker_repeats_one_trial_at_most_and_all_others_end_with_the_same_plan(url: str) -> None:
    together, plans = FORK.Barrier(3), FORK.Queue()
    victim = start_worker(url, together, plans, stalls=True)
    other = start_worker(url, together, plans)
    for _ in ("both are there", "both have opened the study", "one has stalled"):
        together.wait(120)
    store, until = open_study(url), time.monotonic() + 300
    while len(store.trials) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    before = store.trials
    assert len(before) >= 3, "the other one goes on while the victim is at its trial"
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    began_again = FORK.Barrier(1)
    restarted = start_worker(url, began_again, plans)
    found = [plans.get(timeout=300) for _ in range(2)]
    for process in (other, restarted):
        process.join(60)
        assert process.exitcode == 0
    after = store.trials
    assert [trial for trial in before if trial not in after] == []
    assert store.running == []
    alone, plan = searched(Frontier(), space())
    assert Counter(repr(trial.plan) for trial in after) == Counter(repr(trial.plan) for trial in alone)
    assert found == [plan, plan]
    states = states_at(url)
    assert (states["FAIL"], states["RUNNING"], states["WAITING"]) == (1, 0, 0)
    work(Frontier(), space(), late := open_study(url))
    assert late.trials == after, "one that comes later has nothing to do"
    assert Frontier().conclude(space(), late.trials) == plan


def test_workers_at_once_try_no_plan_twice_and_end_alike(url_to_wait_at: str) -> None:
    together, plans = FORK.Barrier(4), FORK.Queue()
    workers = [start_worker(url_to_wait_at, together, plans) for _ in range(4)]
    alone, plan = searched(Frontier(), space())
    assert [plans.get(timeout=300) for _ in workers] == [plan] * 4
    for process in workers:
        process.join(60)
        assert process.exitcode == 0
    trials = open_study(url_to_wait_at).trials
    assert Counter(repr(trial.plan) for trial in trials) == Counter(repr(trial.plan) for trial in alone)


def test_one_worker_finds_what_a_log_of_lines_finds(url: str) -> None:
    lines, study = TrialLog(None, RUN), open_study(url)
    for store in (lines, study):
        work(Frontier(), space(), store)
    assert study.trials == lines.trials
    assert not lines.running
    assert not lines.run_trial(None, lambda _: pytest.fail("there is no plan"))


@pytest.mark.parametrize("name", SEARCHES)
def test_opened_anew_for_every_trial_a_study_leads_to_the_same_sequence(name: str, tmp_path: Path) -> None:
    search = PARS(evaluations=8, initial=4) if name == "pars" else search_named(name)
    asked = toy(None if search.tunes_layers else Budget(macs=2500), layers=2, ranked=3)
    trials, plan = searched(search, asked)
    url = f"journal:///{tmp_path / 'study'}"
    while True:
        store = open_study(url)
        proposed = search.propose(asked, store.trials, store.running)
        if proposed is None:
            break
        keep(store, trial_of(asked, proposed, search.tunes_layers))
    assert store.trials == trials
    assert search.conclude(asked, store.trials) == plan


def test_a_study_of_another_run_is_refused(url: str) -> None:
    keep(open_study(url), TRIALS[0])
    with pytest.raises(PolyadicError, match="belongs to a run with another model, data or options"):
        open_study(url, "other")
    assert StudyLog(url, "other", name="second").trials == []
    assert open_study(url).trials == TRIALS[:1]


def test_trials_of_somebody_else_are_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    store = open_study(url)
    with study_at(url) as study:
        study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StorageError, match=r"trial 0 of the study at .* is not one of a search"):
        _ = store.trials


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://host", "a storage is sqlite:///FILE"),
        ("postgresql://me:secret@127.0.0.1:1/none", r"at postgresql://me:\*\*\*@127.0.0.1:1/none cannot be used"),
        ("sqlite:////proc/study.db", "cannot be used"),
        ("journal:////proc/study", "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used_is_said_without_its_password(url: str, message: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(PolyadicError, match=message) as caught:
        StudyLog(url, RUN)
    assert "secret" not in str(caught.value)
    assert "secret" not in hide_password(url)


@pytest.mark.parametrize("url", ["sqlite:///{}/nowhere/x.db", "journal:///{}/nowhere/x", "{}/nowhere/x.db"])
def test_a_folder_that_does_not_exist_is_not_made(url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no .*nowhere: make it, or correct the address"):
        StudyLog(url.format(tmp_path), RUN)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        StudyLog(str(tmp_path / "study.db"), RUN)


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    url = f"journal:///{tmp_path / 'study'}"
    keep(open_study(url), TRIALS[0])
    content = (tmp_path / "study").read_bytes()
    (tmp_path / "study").write_bytes(content[:-20] + b"\n" + content[-20:])
    with pytest.raises(StorageError, match="cannot be used"):
        open_study(url)


def test_a_path_is_a_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    keep(StudyLog(str(path), RUN, toy().candidates), TRIALS[0])
    assert path.read_bytes().startswith(b"SQLite format 3")
    assert StudyLog(f"sqlite:///{path}", RUN).trials == TRIALS[:1]


def test_optuna_keeps_its_voice_and_says_nothing_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    keep(open_study(f"sqlite:///{tmp_path / 'study.db'}"), TRIALS[0])
    assert optuna.logging.get_verbosity() == before == logging.INFO
    assert capfd.readouterr() == ("", "")
