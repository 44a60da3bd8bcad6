"""Where a plan comes from, one strategy per file; knows no network.

``PARS`` and ``StudyLog`` need Optuna, which takes a second to load: they are imported when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyadic.schema import Trial
from polyadic.search.loss_table import anchors
from polyadic.search.space import RankCandidates, SearchSpace, cheapest_plan, relax_plan, round_rank, single_layer_plan
from polyadic.search.strategies import (
    SEARCHES,
    VBMF,
    Bisection,
    ErrorBound,
    Frontier,
    Greedy,
    Uniform,
    search_named,
)
from polyadic.search.strategy import RankSearch
from polyadic.search.trials import Evaluate, TrialLog, TrialStore, open_trials

if TYPE_CHECKING:
    from polyadic.search.strategies.pars import PARS
    from polyadic.search.study import StudyLog

__all__ = [
    "PARS",
    "SEARCHES",
    "VBMF",
    "Bisection",
    "ErrorBound",
    "Evaluate",
    "Frontier",
    "Greedy",
    "RankCandidates",
    "RankSearch",
    "SearchSpace",
    "StudyLog",
    "Trial",
    "TrialLog",
    "TrialStore",
    "Uniform",
    "anchors",
    "cheapest_plan",
    "open_trials",
    "relax_plan",
    "round_rank",
    "search_named",
    "single_layer_plan",
]

_ON_DEMAND = {"PARS": "polyadic.search.strategies.pars", "StudyLog": "polyadic.search.study"}


def __getattr__(name: str) -> Any:
    """A class that needs Optuna, imported on first use."""
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
