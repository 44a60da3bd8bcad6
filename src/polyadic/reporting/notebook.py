"""Results in a notebook: rows that become a data frame, and figures that show themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from polyadic.errors import PolyadicError
from polyadic.reporting.chart import Chart
from polyadic.reporting.svg import svg_file

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
                "data frames need pandas: pip install 'polyadic[frames]'; the rows themselves are a list of "
                "dictionaries"
            ) from error
        return pandas.DataFrame(list(self))


class Svg(str):
    """A drawing that notebooks show, and that is the text of an SVG file."""

    def _repr_svg_(self) -> str:
        return str(self)


def figures_of(charts: Iterable[Chart]) -> dict[str, Svg]:
    """Charts as drawings, by name."""
    return {chart.name: Svg(svg_file(chart).decode()) for chart in charts}
