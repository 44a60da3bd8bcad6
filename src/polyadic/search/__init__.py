"""Where a plan comes from, one strategy per file; knows no network."""

from polyadic.search.bisection import Bisection
from polyadic.search.rank_search import Ladder, Problem, RankSearch, Trial, single
from polyadic.search.relaxation import relaxed
from polyadic.search.trial_log import TrialLog

__all__ = ["Bisection", "Ladder", "Problem", "RankSearch", "Trial", "TrialLog", "relaxed", "single"]
