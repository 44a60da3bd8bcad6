"""Who of several workers carries out the plan that they have found together: the first one that says so."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

from polyadic.errors import ConcludedElsewhereError
from polyadic.schema import Plan
from polyadic.search.claim import Holder
from polyadic.search.rank_search import Trial
from polyadic.search.study_log import StudyLog
from polyadic.search.study_storage import hide_password

_THE_PLAN = Plan()  # what is claimed here; whichever it is, one worker carries it out


@contextlib.contextmanager
def concluding(
    url: str | None, run: str, *, where: str = "", again: bool = False, interval: float = 15.0, patience: float = 90.0
) -> Iterator[None]:
    """Inside, this worker is the one that concludes the run; it is noted when the block ends, and given up if it fails.

    It is a study of its own, beside that of the trials. A worker that died inside is noticed as those of trials are: at
    once on its own machine, elsewhere when no sign of life has come for ``patience`` seconds. So one that finds
    another's claim from elsewhere waits for its next sign of life.

    Args:
        url: of the storage; None where nobody else is at work.
        run: a digest of everything that decides the trials and what follows them.
        where: the folder of this worker, for the others to say.
        again: conclude also where somebody has done so before.
        interval: seconds between two signs of life.
        patience: seconds without one after which a worker counts as dead.

    Raises:
        ConcludedElsewhereError: another worker is at it, or has ended.
        StorageError: the storage cannot be used.
    """
    if url is None:
        yield
        return
    name = f"polyadic conclusion {hashlib.sha256(run.encode()).hexdigest()[:12]}"
    log = StudyLog(url, run, name=name, interval=interval, patience=patience)
    _claim(log, where, again)
    try:
        yield
    except BaseException:
        log.release()
        raise
    log.add(Trial(_THE_PLAN, 0.0, joint=True), {})


def _claim(log: StudyLog, where: str, again: bool) -> None:
    """Come back with the claim.

    Raises:
        ConcludedElsewhereError: somebody else has it and lives, or has ended.
    """
    seen: Holder | None = None
    while True:
        _ = log.running  # voids the claims of those that have died
        holder = log.holder(_THE_PLAN)
        if holder is None or (holder.finished and again):
            if log.claim(_THE_PLAN, where, again=again):
                return
            continue  # somebody was quicker
        lives = holder.is_here or (seen is not None and seen.worker == holder.worker and seen.beat != holder.beat)
        if holder.finished or lives:
            raise ConcludedElsewhereError(_in_words(holder, log.url), holder.worker)
        seen = holder if seen is None or seen.worker != holder.worker else seen
        time.sleep(min(log.interval, 1.0))


def _in_words(holder: Holder, url: str) -> str:
    folder = f" in {holder.where}" if holder.where else ""
    if holder.finished:
        return (
            f"worker {holder.worker} has concluded the run at {hide_password(url)}{folder}, so nothing is left to do here: "
            "--resume does it once more"
        )
    return (
        f"worker {holder.worker} carries out the plan of {hide_password(url)} and fine-tunes it{folder}; this worker has "
        "nothing left to do"
    )
