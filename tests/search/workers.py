"""Workers of one study in processes of their own."""

from __future__ import annotations

import multiprocessing
import socket
import sys
from multiprocessing.process import BaseProcess
from threading import Barrier

from toys import toy, work

from polyadic.schema import Budget
from polyadic.search import Frontier, Problem, StudyLog

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["polyadic.search", "toys"])

RUN, INTERVAL, PATIENCE = "digest", 0.2, 1.5


def problem() -> Problem:
    """Twenty rows and ten whole plans, or so."""
    return toy(Budget(macs=5000))


def opened(url: str, run: str = RUN) -> StudyLog:
    """The log of all workers here; a worker counts as dead early."""
    return StudyLog(url, run, problem().ladders, interval=INTERVAL, patience=PATIENCE)


def worker(
    url: str, together: Barrier, seconds: float, stall_at: int | None, host: str | None, told: str | None
) -> None:
    """Join the study; ``host`` pretends another machine; ``told`` is a file written when it stalls."""
    if host is not None:
        socket.gethostname = lambda: host
    if told is not None:
        sys.stdout = open(told, "w")  # noqa: SIM115 - closed with the process
    together.wait(120)
    log = opened(url)
    together.wait(120)
    work(Frontier(), problem(), log, seconds, stall_at)


def started(
    url: str, together: Barrier, stall_at: int | None = None, host: str | None = None, told: str | None = None
) -> BaseProcess:
    """A worker that begins when all of ``together`` are there, and opens the study at the same moment as they."""
    process = FORK.Process(target=worker, args=(url, together, 0.02, stall_at, host, told), daemon=True)
    process.start()
    return process
