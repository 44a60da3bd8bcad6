"""A result as something to read: tables, a model card, a page, figures."""

from polyadic.reporting.comparison import compare, comparison_html
from polyadic.reporting.model_card import markdown, model_card
from polyadic.reporting.plotly_figures import plotly_figure, plotly_figures
from polyadic.reporting.records import epoch_records, layer_records, network_records, trial_records
from polyadic.reporting.report import REPORT, charts, report, report_html, summary_html, write_figures
from polyadic.reporting.result_folder import ResultFolder, read_result
from polyadic.reporting.svg import svg_file
from polyadic.reporting.tables import (
    HEADLINE_COLUMNS,
    LAYER_COLUMNS,
    SITE_COLUMNS,
    headline_rows,
    layer_rows,
    site_rows,
)

__all__ = [
    "HEADLINE_COLUMNS",
    "LAYER_COLUMNS",
    "REPORT",
    "SITE_COLUMNS",
    "ResultFolder",
    "charts",
    "compare",
    "comparison_html",
    "epoch_records",
    "headline_rows",
    "layer_records",
    "layer_rows",
    "markdown",
    "model_card",
    "network_records",
    "plotly_figure",
    "plotly_figures",
    "read_result",
    "report",
    "report_html",
    "site_rows",
    "summary_html",
    "svg_file",
    "trial_records",
    "write_figures",
]
