"""Results in a notebook: rows that become a data frame, and results and figures that show themselves."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from polyadic.errors import PolyadicError, install_hint

if TYPE_CHECKING:
    from pandas import DataFrame


class Rows(list[dict[str, Any]]):
    """Tidy rows: one dictionary per observation, the same keys in each, numbers as numbers."""

    def to_frame(self) -> DataFrame:
        """The same as a data frame of pandas, one column for each key.

        Raises:
            PolyadicError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise PolyadicError(
                f"data frames need pandas: {install_hint('frames')}; the rows themselves are a list of dictionaries"
            ) from error
        return pandas.DataFrame(list(self))


class Svg(str):
    """A drawing that notebooks show, and that is the text of an SVG file."""

    def _repr_svg_(self) -> str:
        return str(self)


class NotebookResult:
    """A result that notebooks show.

    Pages are made of results, and results that show themselves need pages: the one circle of this library. It is broken
    here, where :mod:`polyadic.reporting` is imported only when a result is shown.
    """

    def records(self) -> Rows:
        """Tidy rows; ``records().to_frame()`` is a data frame where pandas is installed."""
        rows: Rows = _reporting().records(self._shown())
        return rows

    def figures(self) -> dict[str, Svg]:
        """The plots of its page by name, but for those that need the log of a search."""
        drawn: dict[str, Svg] = _reporting().figures(self._shown())
        return drawn

    def _repr_html_(self) -> str:
        """What a notebook shows: the figures that count, and one plot."""
        return str(_reporting().piece(self._shown()))

    def _shown(self) -> object:
        """What its page is made of, where that is not the result itself."""
        return self


def _reporting() -> ModuleType:
    from polyadic import reporting  # the one import that goes up, and only when something is shown

    return reporting
