"""Workers of one study in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from threading import Barrier

from toys import toy, work

from polyadic.schema import Budget, Plan
from polyadic.search import Frontier, SearchSpace, StudyLog

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["polyadic.search", "polyadic.search.study", "toys"])

RUN, INTERVAL, GRACE = "digest", 1, 8  # seconds; a loaded machine may hold a heartbeat up for some


def space() -> SearchSpace:
    """Twenty rows and ten whole plans, or so."""
    return toy(Budget(macs=5000))


def open_study(url: str, run: str = RUN, grace: int = GRACE) -> StudyLog:
    """The trials of all workers here; a worker counts as dead early."""
    return StudyLog(url, run, space().candidates, interval=INTERVAL, grace=grace)


def worker(url: str, together: Barrier, stalls: bool, plans: Queue[Plan]) -> None:
    """Join the study, and say with which plan it ends.

    One that ``stalls`` never ends its third trial. The other one begins its first when that has begun, so that neither
    can finish the study before the other has had its turn.
    """
    together.wait(120)
    store = open_study(url)
    together.wait(120)

    def stall(done: int) -> None:
        if done == 2:
            together.wait(120)
            time.sleep(600)

    if not stalls:
        together.wait(120)
    work(Frontier(), space(), store, 0.02, stall if stalls else None)
    plans.put(Frontier().conclude(space(), store.trials))


def start_worker(url: str, together: Barrier, plans: Queue[Plan], *, stalls: bool = False) -> BaseProcess:
    """A worker that opens the study at the same moment as all others of ``together``."""
    process = FORK.Process(target=worker, args=(url, together, stalls, plans), daemon=True)
    process.start()
    return process
