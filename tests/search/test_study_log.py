from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from toys import searched, toy, trial_of
from workers import FORK, PATIENCE, RUN, open_storage, space, started

from polyadic.errors import PolyadicError, StorageError
from polyadic.schema import Budget, Choice, Plan
from polyadic.search import PARS, SEARCHES, Frontier, StudyLog, Trial, TrialLog, search_named
from polyadic.search.study_storage import close_storage, hide_password
from polyadic.search.study_storage import open_storage as storage_at

TRIALS = [
    Trial(Plan((Choice("layer0", "svd", (3,)),)), 0.25, final=False),
    Trial(Plan((Choice("layer1", "svd", (2,)),)), -1.0, joint=True, divergence=0.125),
    Trial(Plan((Choice("layer0", "svd", (1,)), Choice("layer2", "svd", (2,)))), math.inf, joint=True),
]


@contextlib.contextmanager
def study_at(url: str) -> Iterator[optuna.Study]:
    """The study as Optuna's own tools see it."""
    storage = storage_at(url)
    yield optuna.load_study(study_name="polyadic", storage=storage)
    close_storage(storage)


def test_trials_come_back_as_they_were_with_their_details_and_shares(url: str) -> None:
    log = open_storage(url)
    assert (log.trials, log.running) == ([], [])
    for trial in TRIALS:
        assert log.claim(trial.plan)
        assert log.running == [trial.plan]
        log.add(trial, {"seconds": 0.5, "interval": (0.1, 0.2)})
        assert log.running == []
    assert open_storage(url).trials == log.trials == TRIALS
    with study_at(url) as study:
        first, second, third = study.get_trials()
    assert [one.state.name for one in (first, second, third)] == ["COMPLETE"] * 3
    assert (first.value, second.value, third.value) == (0.25, 0.125, math.inf)
    assert third.params == pytest.approx({"layer0": 1 / 6, "layer1": 1.0, "layer2": 2 / 6, "layer3": 1.0}, abs=1e-3)
    assert (first.user_attrs["seconds"], first.user_attrs["drop"], first.user_attrs["joint"]) == (0.5, 0.25, False)


def test_a_claim_is_seen_by_the_others_and_the_earlier_one_holds(url: str) -> None:
    one, two = open_storage(url), open_storage(url)
    plan, other = TRIALS[0].plan, TRIALS[1].plan
    assert one.claim(plan)
    assert two.running == [plan]
    assert not two.claim(plan)
    assert two.claim(other)
    assert one.running == [plan, other] == two.running
    one.add(TRIALS[0], {})
    assert not two.claim(plan), "it has been tried since two looked last"
    assert two.trials == TRIALS[:1]
    assert two.claim(plan), "to try it again on purpose, knowing the first trial, is another thing"
    two.release()
    assert one.running == two.running == []


def test_a_worker_on_another_machine_that_falls_silent_loses_its_claim_and_one_that_lives_does_not(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, dead, alive = open_storage(url), open_storage(url), open_storage(url)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert alive.claim(TRIALS[1].plan)
    assert dead.claim(TRIALS[0].plan)
    monkeypatch.undo()
    dead._claims[TRIALS[0].plan]._over.set()  # no more signs of life
    until = time.monotonic() + 20
    assert set(log.running) == {TRIALS[0].plan, TRIALS[1].plan}
    while len(log.running) == 2 and time.monotonic() < until:
        time.sleep(0.1)
    began = time.monotonic()
    while time.monotonic() - began < 1.5 * PATIENCE:
        assert log.running == [TRIALS[1].plan]
        time.sleep(0.2)
    assert log.claim(TRIALS[0].plan)
    log.add(TRIALS[0], {})
    dead.add(TRIALS[0], {"late": True})  # it was only slow: its trial is kept as well
    alive.add(TRIALS[1], {})
    assert Counter(map(repr, log.trials)) == Counter(map(repr, [TRIALS[0], TRIALS[0], TRIALS[1]]))


def test_a_killed_worker_loses_one_trial_and_the_others_finish(url: str) -> None:
    together = FORK.Barrier(3)
    host = None if url.startswith("sqlite") else "elsewhere"  # on the same machine its end is noticed at once
    victim = started(url, together, stalls=True, host=host)
    other = started(url, together)
    for _ in ("both are there", "both have opened the study", "one has stalled"):
        together.wait(120)
    log, until = open_storage(url), time.monotonic() + 300
    while len(log.trials) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    before = log.trials
    assert len(before) >= 3, "the other one goes on while the victim holds its claim"
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    other.join(300)
    assert other.exitcode == 0
    after = log.trials
    assert [trial for trial in before if trial not in after] == []
    assert log.running == []
    alone, plan = searched(Frontier(), space())
    assert {trial.plan for trial in after} == {trial.plan for trial in alone}
    assert len(after) <= len(alone) + 1
    assert Frontier().conclude(space(), after) == plan
    with study_at(url) as study:
        states = Counter(one.state.name for one in study.get_trials())
    assert states["FAIL"] >= 1
    assert states["RUNNING"] == 0


def test_one_worker_finds_what_a_log_of_lines_finds(url: str) -> None:
    lines, study = TrialLog(None, RUN), open_storage(url)
    for log in (lines, study):
        while (plan := Frontier().propose(space(), log.trials, log.running)) is not None:
            assert log.claim(plan)
            log.add(trial_of(space(), plan), {})
        log.release()
    assert study.trials == lines.trials
    assert lines.running == ()


@pytest.mark.parametrize("name", SEARCHES)
def test_opened_anew_for_every_trial_a_study_leads_to_the_same_sequence(name: str, tmp_path: Path) -> None:
    search = PARS(evaluations=8, initial=4) if name == "pars" else search_named(name)
    asked = toy(None if search.tunes_layers else Budget(macs=2500), layers=2, ranked=3)
    trials, plan = searched(search, asked)
    url = f"journal:///{tmp_path / 'study'}"
    while True:
        log = open_storage(url)
        proposed = search.propose(asked, log.trials, log.running)
        if proposed is None:
            break
        assert log.claim(proposed)
        log.add(trial_of(asked, proposed, search.tunes_layers), {})
    assert log.trials == trials
    assert search.conclude(asked, log.trials) == plan


def test_the_claim_of_a_process_that_is_gone_is_void_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    log = open_storage(url)
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: child.pid)
        assert log.claim(TRIALS[0].plan)
    assert log.running == [TRIALS[0].plan]
    assert open_storage(url).running == []
    log.add(TRIALS[0], {})
    assert open_storage(url).trials == [TRIALS[0]]


def test_a_study_of_another_run_is_refused(url: str) -> None:
    open_storage(url).add(TRIALS[0], {})
    with pytest.raises(PolyadicError, match="belongs to a run with another model, data or options"):
        open_storage(url, "other")
    assert StudyLog(url, "other", name="second").trials == []
    assert open_storage(url).trials == TRIALS[:1]


def test_trials_of_somebody_else_are_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    log = open_storage(url)
    with study_at(url) as study:
        study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StorageError, match=r"trial 0 of the study at .* is not one of a search"):
        _ = log.trials


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://host", "a storage is sqlite:///FILE"),
        ("postgresql://me:secret@127.0.0.1:1/none", r"at postgresql://me:\*\*\*@127.0.0.1:1/none cannot be used"),
        ("sqlite:////proc/none/study.db", "cannot be used"),
        ("journal:////proc/none/study", "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used_is_said_without_its_password(url: str, message: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(PolyadicError, match=message) as caught:
        StudyLog(url, RUN)
    assert "secret" not in str(caught.value)
    assert "secret" not in hide_password(url)


def test_a_damaged_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        StudyLog(str(tmp_path / "study.db"), RUN)


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    url = f"journal:///{tmp_path / 'study'}"
    open_storage(url).add(TRIALS[0], {})
    content = (tmp_path / "study").read_bytes()
    (tmp_path / "study").write_bytes(content[:-20] + b"\n" + content[-20:])
    with pytest.raises(StorageError, match="cannot be used"):
        open_storage(url)


def test_a_path_is_a_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.db"
    StudyLog(str(path), RUN, toy().all_candidates).add(TRIALS[0], {})
    assert path.read_bytes().startswith(b"SQLite format 3")
    assert StudyLog(f"sqlite:///{path}", RUN).trials == TRIALS[:1]


def test_optuna_keeps_its_voice_and_says_nothing_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    open_storage(f"sqlite:///{tmp_path / 'study.db'}").add(TRIALS[0], {})
    assert optuna.logging.get_verbosity() == before == logging.INFO
    assert capfd.readouterr() == ("", "")
