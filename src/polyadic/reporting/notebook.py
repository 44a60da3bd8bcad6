"""What notebooks show of a result: tidy rows, its plots, a piece of its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from polyadic.reporting.page import Html
from polyadic.reporting.records import layer_records
from polyadic.reporting.result_page import summary_figures, summary_html
from polyadic.reporting.search_page import forecast_html, found_figures, found_html
from polyadic.schema import CostEstimate, Rows, SearchResult, Summary, Svg


def records(result: object) -> Rows:
    """One row per layer; of a search one per plan of its front, cheapest first, and one for the plan itself.

    Raises:
        TypeError: nothing is known of such a result.
    """
    match result:
        case Summary():
            return layer_records(result)
        case SearchResult():
            rows = [*result.front, *([] if result.tried in result.front else [result.tried])]
            return Rows({**one.to_json(), "chosen": one.plan == result.plan} for one in rows)
        case CostEstimate():
            return Rows(asdict(layer) for layer in result.layers)
    raise _unknown(result)


def figures(result: object) -> dict[str, Svg]:
    """The plots of its page by name, but for those that need the log of a search.

    Raises:
        TypeError: nothing is known of such a result.
    """
    match result:
        case Summary():
            return summary_figures(result)
        case SearchResult():
            return found_figures(result.to_json())
        case CostEstimate():
            return {}
    raise _unknown(result)


def piece(result: object) -> Html:
    """The figures that count, and one plot.

    Raises:
        TypeError: nothing is known of such a result.
    """
    match result:
        case Summary():
            return summary_html(result)
        case SearchResult():
            return found_html(result.to_json())
        case CostEstimate():
            layers: list[Mapping[str, Any]] = [asdict(layer) for layer in result.layers]
            return forecast_html(result.dense, result.cost, layers)
    raise _unknown(result)


def _unknown(result: object) -> TypeError:
    return TypeError(
        f"notebooks show results of compress, search, estimate_cost and studies; got {type(result).__name__}"
    )
