"""A result, a search or a study as something to read: tables, a model card, a page, figures."""

from polyadic.reporting.bench_charts import (
    BENCH_COLUMNS,
    bench_charts,
    bench_figures,
    bench_notes,
    bench_page,
    bench_rows,
    read_bench,
)
from polyadic.reporting.comparison import compare, comparison_html
from polyadic.reporting.model_card import markdown, model_card
from polyadic.reporting.notebook import figures, piece, records
from polyadic.reporting.plotly_figures import plotly_figure, plotly_figures
from polyadic.reporting.records import epoch_records, layer_records, network_records, trial_records
from polyadic.reporting.report import REPORT, Folder, charts, read_folder, report, report_html, write_figures
from polyadic.reporting.result_folder import ResultFolder, read_result
from polyadic.reporting.result_page import summary_figures, summary_html
from polyadic.reporting.search_folder import SearchFolder, read_search
from polyadic.reporting.search_page import forecast_html, found_figures, found_html
from polyadic.reporting.study_folder import StudyFolder, read_study
from polyadic.reporting.study_page import study_figures, study_piece
from polyadic.reporting.svg import svg_file
from polyadic.reporting.tables import (
    HEADLINE_COLUMNS,
    LAYER_COLUMNS,
    SITE_COLUMNS,
    headline_rows,
    layer_rows,
    site_rows,
)
from polyadic.schema import Rows, Svg

__all__ = [
    "BENCH_COLUMNS",
    "HEADLINE_COLUMNS",
    "LAYER_COLUMNS",
    "REPORT",
    "SITE_COLUMNS",
    "Folder",
    "ResultFolder",
    "Rows",
    "SearchFolder",
    "StudyFolder",
    "Svg",
    "bench_charts",
    "bench_figures",
    "bench_notes",
    "bench_page",
    "bench_rows",
    "charts",
    "compare",
    "comparison_html",
    "epoch_records",
    "figures",
    "forecast_html",
    "found_figures",
    "found_html",
    "headline_rows",
    "layer_records",
    "layer_rows",
    "markdown",
    "model_card",
    "network_records",
    "piece",
    "plotly_figure",
    "plotly_figures",
    "read_bench",
    "read_folder",
    "read_result",
    "read_search",
    "read_study",
    "records",
    "report",
    "report_html",
    "site_rows",
    "study_figures",
    "study_piece",
    "summary_figures",
    "summary_html",
    "svg_file",
    "trial_records",
    "write_figures",
]
