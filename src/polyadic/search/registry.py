"""The searches by name. A new one is a file beside this and a line here."""

from __future__ import annotations

import inspect
from typing import Any

from polyadic.errors import PolyadicError
from polyadic.search.bisection import Bisection
from polyadic.search.error_bound import ErrorBound
from polyadic.search.frontier import Frontier
from polyadic.search.greedy import Greedy
from polyadic.search.pars import PARS
from polyadic.search.rank_search import RankSearch
from polyadic.search.uniform import Uniform
from polyadic.search.vbmf import VBMF

SEARCHES: dict[str, type[RankSearch]] = {
    "uniform": Uniform,
    "bisection": Bisection,
    "vbmf": VBMF,
    "error-bound": ErrorBound,
    "greedy": Greedy,
    "frontier": Frontier,
    "pars": PARS,
}


def search_named(name: str, **options: Any) -> RankSearch:
    """The search of that name; ``options`` are fields of its class, and what is absent keeps its default.

    Raises:
        PolyadicError: no search has that name, or it has no such option.
    """
    if name not in SEARCHES:
        raise PolyadicError(f"a search is one of {', '.join(SEARCHES)}; got {name!r}")
    known = tuple(inspect.signature(SEARCHES[name]).parameters)
    for option in options:
        if option not in known:
            raise PolyadicError(f"search {name} takes {', '.join(known) or 'no options'}; got {option!r}")
    return SEARCHES[name](**options)
