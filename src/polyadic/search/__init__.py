"""Where a plan comes from, one strategy per file; knows no network."""

from polyadic.search.bisection import Bisection
from polyadic.search.conclusion import concluding
from polyadic.search.error_bound import ErrorBound
from polyadic.search.frontier import Frontier
from polyadic.search.greedy import Greedy
from polyadic.search.loss_table import anchors
from polyadic.search.pars import PARS
from polyadic.search.rank_candidates import RankCandidates
from polyadic.search.rank_search import RankSearch, SearchSpace, Trial, cheapest_plan, single_layer_plan
from polyadic.search.registry import SEARCHES, search_named
from polyadic.search.relax_plan import relax_plan
from polyadic.search.round_rank import round_rank
from polyadic.search.study_log import StudyLog
from polyadic.search.trial_log import TrialLog
from polyadic.search.trial_store import TrialStore
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
    "concluding",
    "relax_plan",
    "round_rank",
    "search_named",
    "single_layer_plan",
]
