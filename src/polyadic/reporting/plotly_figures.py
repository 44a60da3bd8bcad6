"""Charts as figures of Plotly, to zoom into in a notebook. Needs the extra ``plots``."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from polyadic.errors import PolyadicError, install_hint
from polyadic.reporting.chart import BarChart, Chart, PanelChart, PointChart, Points, StripChart
from polyadic.reporting.report import AnyFolder, charts

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SYMBOLS = ("circle", "square", "diamond", "triangle-up")


def plotly_figures(folder: AnyFolder) -> dict[str, Figure]:
    """Every chart of the report as a figure, by name.

    Raises:
        PolyadicError: Plotly is not installed.
    """
    return {chart.name: plotly_figure(chart) for chart in charts(folder)}


def plotly_figure(chart: Chart) -> Figure:
    """One chart as a figure.

    Raises:
        PolyadicError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise PolyadicError(f"figures to zoom into need Plotly: {install_hint('plots')}") from error
    figure = go.Figure(layout={"title": chart.title, "template": "plotly_white"})
    match chart:
        case BarChart():
            _bars(figure, chart)
        case PanelChart():
            _panels(figure, chart)
        case PointChart():
            _points(figure, chart)
        case StripChart():
            _strip(figure, chart)
    return figure


def _bars(figure: Figure, chart: BarChart) -> None:
    names = [_inert(name) for name in chart.categories]
    for series in chart.series:
        figure.add_bar(x=list(series.values), y=names, name=series.label, orientation="h", **_fill(series.colour))
    for line in chart.lines:
        figure.add_vline(x=line.at, line_dash="dash", annotation_text=_inert(line.label))
    figure.update_xaxes(title=chart.label, type="log" if chart.log else "linear")
    figure.update_yaxes(autorange="reversed", type="category")


def _points(figure: Figure, chart: PointChart) -> None:
    for series in chart.series:
        _scatter(figure, series, showlegend=bool(series.label))
    for line in chart.lines:
        draw = figure.add_vline if line.axis == "x" else figure.add_hline
        draw(line.at, line_dash="dash", line_color="grey", annotation_text=_inert(line.label))
    figure.update_xaxes(title=chart.x_label, type="log" if chart.x_log else "linear")
    figure.update_yaxes(title=chart.y_label, type="log" if chart.y_log else "linear", visible=chart.y_label is not None)


def _panels(figure: Figure, chart: PanelChart) -> None:
    """One pair of axes for each panel, in a grid of three columns."""
    columns = min(3, len(chart.panels))
    figure.set_subplots(
        rows=-(-len(chart.panels) // columns),
        cols=columns,
        shared_yaxes="all",
        subplot_titles=[_inert(panel.title) for panel in chart.panels],
    )
    shown = set[str]()
    for number, panel in enumerate(chart.panels):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for series in panel.series:
            _scatter(figure, series, showlegend=series.label not in shown, legendgroup=_inert(series.label), **place)
            shown.add(series.label)
        for line in chart.lines:
            figure.add_hline(line.at, line_dash="dash", line_color="grey", **place)
    figure.update_xaxes(title=chart.x_label, type="log" if chart.own_x else "linear")
    figure.update_yaxes(type="log" if chart.y_log else "linear")
    figure.update_yaxes(title=chart.y_label, col=1)


def _scatter(figure: Figure, series: Points, **more: Any) -> None:
    figure.add_scatter(
        x=list(series.x),
        y=list(series.y),
        name=_inert(series.label),
        text=[_inert(said) for said in series.texts],
        mode="markers" if series.kind == "points" else "lines+markers" if series.label else "lines",
        line={"shape": "hv" if series.kind == "step" else "linear", "color": _colours()[series.colour]},
        marker={"symbol": _SYMBOLS[series.symbol % len(_SYMBOLS)], "size": 9},
        **more,
    )


def _strip(figure: Figure, chart: StripChart) -> None:
    total = sum(part.width for part in chart.parts)
    at, shown = 0.0, set[str]()
    said = {colour: label for label, colour in chart.legend}
    for part in chart.parts:
        width = 100.0 * part.width / total
        figure.add_bar(
            x=[at + width / 2],
            y=[100.0 * part.filled],
            width=[width],
            name=_inert(said[part.colour]),
            legendgroup=part.colour,
            showlegend=part.colour not in shown,
            hovertext=_inert(part.text),
            hoverinfo="text",
            **_fill(part.colour),
        )
        shown.add(part.colour)
        at += width
    figure.update_xaxes(title=chart.x_label, range=[0, 100])
    figure.update_yaxes(title=chart.y_label, range=[0, 100])


def _fill(colour: str) -> dict[str, Any]:
    return {"marker": {"color": _colours()[colour]}}


def _inert(text: str) -> str:
    """Text that Plotly, which reads some tags in labels, shows as it is."""
    return text.replace("<", "&lt;")


@functools.cache
def _colours() -> dict[str, str]:
    """The colours of the figures for papers."""
    style = files("polyadic.reporting").joinpath("templates/figure.css").read_text(encoding="utf-8")
    return dict(re.findall(r"^\.(\w+) \{ fill: (#\w+);", style, re.MULTILINE))
