"""Optuna without its log lines: a study in memory is made anew for every proposal, which nobody wants to read of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import optuna


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Within the block Optuna logs errors only, and afterwards what it logged before.

    Nor does it warn of probabilities that are all 0 in double precision: it goes on with the best point alone.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.ERROR))
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            yield
    finally:
        optuna.logging.set_verbosity(before)
