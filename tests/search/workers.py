"""Workers of one study in processes of their own."""

from __future__ import annotations

import multiprocessing
import socket
import time
from multiprocessing.process import BaseProcess
from threading import Barrier

from toys import toy, work

from polyadic.schema import Budget
from polyadic.search import Frontier, SearchSpace, StudyLog

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["polyadic.search", "toys"])

RUN, INTERVAL, PATIENCE = "digest", 0.2, 1.5


def space() -> SearchSpace:
    """Twenty rows and ten whole plans, or so."""
    return toy(Budget(macs=5000))


def open_storage(url: str, run: str = RUN) -> StudyLog:
    """The log of all workers here; a worker counts as dead early."""
    return StudyLog(url, run, space().all_candidates, interval=INTERVAL, patience=PATIENCE)


def worker(url: str, together: Barrier, stalls: bool, host: str | None) -> None:
    """Join the study; ``host`` pretends another machine.

    One that ``stalls`` never ends its third trial. The other one begins its first when that has begun, so that neither
    can finish the study before the other has had its turn.
    """
    if host is not None:
        socket.gethostname = lambda: host
    together.wait(120)
    log = open_storage(url)
    together.wait(120)

    def stall(done: int) -> None:
        if done == 2:
            together.wait(120)
            time.sleep(600)

    if not stalls:
        together.wait(120)
    work(Frontier(), space(), log, 0.02, stall if stalls else None)


def started(url: str, together: Barrier, *, stalls: bool = False, host: str | None = None) -> BaseProcess:
    """A worker that opens the study at the same moment as all others of ``together``."""
    process = FORK.Process(target=worker, args=(url, together, stalls, host), daemon=True)
    process.start()
    return process
