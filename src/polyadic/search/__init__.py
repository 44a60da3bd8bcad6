"""Where a plan comes from, one strategy per file; knows no network."""

from polyadic.search.bisection import Bisection
from polyadic.search.conclusion import concluding
from polyadic.search.error_bound import ErrorBound
from polyadic.search.frontier import Frontier
from polyadic.search.greedy import Greedy
from polyadic.search.journal import Journal
from polyadic.search.ladder import Ladder
from polyadic.search.loss_table import anchors
from polyadic.search.pars import PARS
from polyadic.search.rank_search import Problem, RankSearch, Trial, cheapest_plan, single
from polyadic.search.registry import SEARCHES, search_named
from polyadic.search.relaxation import relaxed
from polyadic.search.round_to import rounded
from polyadic.search.study_log import StudyLog
from polyadic.search.trial_log import TrialLog
from polyadic.search.uniform import Uniform
from polyadic.search.vbmf import VBMF

__all__ = [
    "PARS",
    "SEARCHES",
    "VBMF",
    "Bisection",
    "ErrorBound",
    "Frontier",
    "Greedy",
    "Journal",
    "Ladder",
    "Problem",
    "RankSearch",
    "StudyLog",
    "Trial",
    "TrialLog",
    "Uniform",
    "anchors",
    "cheapest_plan",
    "concluding",
    "relaxed",
    "rounded",
    "search_named",
    "single",
]
