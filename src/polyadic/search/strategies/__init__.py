"""The strategies of a search by name, one file each. A new one is a file beside this and a line here."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from polyadic.errors import PolyadicError
from polyadic.search.strategies.bisection import Bisection
from polyadic.search.strategies.error_bound import ErrorBound
from polyadic.search.strategies.frontier import Frontier
from polyadic.search.strategies.greedy import Greedy
from polyadic.search.strategies.uniform import Uniform
from polyadic.search.strategies.vbmf import VBMF
from polyadic.search.strategy import RankSearch

__all__ = ["SEARCHES", "VBMF", "Bisection", "ErrorBound", "Frontier", "Greedy", "Uniform", "search_named"]

_PARS = "pars"  # its module loads Optuna


class _Searches(Mapping[str, type[RankSearch]]):
    """Classes by their names; a class that needs a large library is imported when it is asked for."""

    _loaded: Mapping[str, type[RankSearch]] = {
        kind.name: kind for kind in (Uniform, Bisection, VBMF, ErrorBound, Greedy, Frontier)
    }

    def __getitem__(self, name: str) -> type[RankSearch]:
        if name == _PARS:
            kind: type[RankSearch] = import_module("polyadic.search.strategies.pars").PARS
            return kind
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._loaded, _PARS))

    def __len__(self) -> int:
        return len(self._loaded) + 1


SEARCHES: Mapping[str, type[RankSearch]] = _Searches()


def search_named(name: str, **options: Any) -> RankSearch:
    """The search of that name; ``options`` are fields of its class, and what is absent keeps its default.

    Raises:
        PolyadicError: no search has that name, or it has no such option.
    """
    if name not in SEARCHES:
        raise PolyadicError(f"a search is one of {', '.join(SEARCHES)}; got {name!r}")
    kind = SEARCHES[name]
    known = tuple(inspect.signature(kind).parameters)
    for option in options:
        if option not in known:
            raise PolyadicError(f"search {name} takes {', '.join(known) or 'no options'}; got {option!r}")
    return kind(**options)
