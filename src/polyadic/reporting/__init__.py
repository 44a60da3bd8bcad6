"""A result, a search or a study as something to read: tables, a model card, a page, figures."""

from polyadic.reporting.bench_page import (
    BENCH_COLUMNS,
    bench_charts,
    bench_figures,
    bench_notes,
    bench_page,
    bench_rows,
    read_bench,
)
from polyadic.reporting.comparison import compare, comparison_html
from polyadic.reporting.folder import Folder, read_folder, read_result, read_search, read_study
from polyadic.reporting.headline import HEADLINE_COLUMNS, fewer, headline_rows
from polyadic.reporting.layer_charts import rank_text
from polyadic.reporting.loss_words import divergence_label, held_out_words
from polyadic.reporting.model_card import markdown, model_card
from polyadic.reporting.plotly_figures import plotly_figure, plotly_figures
from polyadic.reporting.records import (
    LAYER_COLUMNS,
    SITE_COLUMNS,
    epoch_records,
    function_rows,
    layer_records,
    layer_rows,
    network_records,
    site_rows,
    trial_records,
)
from polyadic.reporting.report import REPORT, charts, figures, piece, records, report, report_html, write_figures
from polyadic.reporting.svg import svg_file

__all__ = [
    "BENCH_COLUMNS",
    "HEADLINE_COLUMNS",
    "LAYER_COLUMNS",
    "REPORT",
    "SITE_COLUMNS",
    "Folder",
    "bench_charts",
    "bench_figures",
    "bench_notes",
    "bench_page",
    "bench_rows",
    "charts",
    "compare",
    "comparison_html",
    "divergence_label",
    "epoch_records",
    "fewer",
    "figures",
    "function_rows",
    "headline_rows",
    "held_out_words",
    "layer_records",
    "layer_rows",
    "markdown",
    "model_card",
    "network_records",
    "piece",
    "plotly_figure",
    "plotly_figures",
    "rank_text",
    "read_bench",
    "read_folder",
    "read_result",
    "read_search",
    "read_study",
    "records",
    "report",
    "report_html",
    "site_rows",
    "svg_file",
    "trial_records",
    "write_figures",
]
