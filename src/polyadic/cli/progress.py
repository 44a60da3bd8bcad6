"""How far a job is, on standard error: a bar for each stage, or the view of a running search."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from polyadic.cli.screen import console
from polyadic.pipeline import Progress
from polyadic.schema import Plan, TriedPlan, pareto_front

SHOWN = 10
"""Rows of the front, and of the last trials half as many."""


class ProgressBars:
    """One bar per stage, with the time left."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._bars = Bars(
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}", style="dim"),
            console=console,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar of a stage of a run."""
        message = progress.message or (f"trying {progress.trying}" if progress.trying else "")
        self.move(progress.stage, progress.done, progress.total, message)

    def rows(self, done: int, total: int, what: str) -> None:
        """Move the bar of a study: ``done`` of ``total`` rows are there, and ``what`` comes."""
        self.move("rows", done, total, what)

    def move(self, stage: str, done: int, total: int, message: str) -> None:
        """Move the bar of any job: ``done`` of ``total``, and what comes or has come."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, message="")
        self._bars.update(self._tasks[stage], completed=done, total=total, message=message)


class LiveView:
    """The front so far, the last trials, what is being tried and since when.

    It redraws itself on a terminal, and writes one line per step where there is none.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw nothing yet; ``clock`` counts seconds."""
        self._console, self._clock = console, clock
        self._began = self._since = clock()
        self._stages: dict[str, Progress] = {}
        self._trying: str | None = None
        self._last: list[tuple[str, TriedPlan]] = []
        self._wholes: dict[Plan, TriedPlan] = {}
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self.view, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._trying = None
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Take in one step of the run."""
        self._stages[progress.stage] = progress
        if progress.trying is not None:
            self._trying, self._since = progress.trying, self._clock()
        if progress.tried is not None:
            self._trying = None
            self._last = [*self._last, (progress.message, progress.tried)][-(SHOWN // 2) :]
            if progress.whole:
                self._wholes[progress.tried.plan] = progress.tried
        if progress.stage != "search":
            self._trying = None
        if self._live is None and (progress.tried is not None or _worth_a_line(progress)):
            self._console.print(self._line(progress), markup=False, highlight=False, soft_wrap=True)

    def view(self) -> RenderableType:
        """Everything that is known at this moment."""
        parts: list[RenderableType] = [Text(self._stage(progress)) for progress in self._stages.values()]
        if self._trying is not None:
            parts.append(Text(f"trying {self._trying}, {_clock_time(self._clock() - self._since)}", style="bold"))
        front = front_of(list(self._wholes.values()))
        if front:
            parts.append(_front_table(front))
        if self._last:
            parts.append(_last_table(self._last))
        return Group(Text(f"elapsed {_clock_time(self._clock() - self._began)}", style="dim"), *parts)

    def _line(self, progress: Progress) -> str:
        return f"{_clock_time(self._clock() - self._began)} {self._stage(progress)}"

    def _stage(self, progress: Progress) -> str:
        said = f": {progress.message}" if progress.message else ""
        about = "of about" if progress.stage == "search" else "of"
        return f"{progress.stage} {progress.done} {about} {progress.total}{said}"


def display(*, live: bool) -> LiveView | ProgressBars:
    """What shows the steps of a run while it is entered."""
    return LiveView(console) if live else ProgressBars()


def front_of(tried: list[TriedPlan]) -> tuple[TriedPlan, ...]:
    """The plans that no other beats in MACs and loss, cheapest first.

    The loss is the divergence where all of them have it, else the drop.
    """
    measured = all(one.divergence is not None for one in tried)

    def loss(one: TriedPlan) -> float:
        return one.divergence if measured and one.divergence is not None else one.drop

    return pareto_front(tried, lambda one: one.cost.macs, loss)


def _front_table(front: tuple[TriedPlan, ...]) -> Table:
    """The best plans so far, the least lossy ones where there are too many."""
    hidden = max(len(front) - SHOWN, 0)
    cheaper = f" ({hidden} cheaper and worse ones not shown)" if hidden else ""
    table = Table("layers", "MACs", "parameters", "drop of score", "divergence", title=f"the front so far{cheaper}")
    for one in front[-SHOWN:]:
        divergence = "" if one.divergence is None else f"{one.divergence:.4f}"
        macs, params = f"{one.cost.macs:,}", f"{one.cost.params:,}"
        table.add_row(str(len(one.plan.choices)), macs, params, f"{one.drop:.4g}", divergence)
    return table


def _last_table(last: list[tuple[str, TriedPlan]]) -> Table:
    table = Table("MACs of the network", "what was tried", title="the last trials")
    for said, one in last:
        table.add_row(f"{one.cost.macs:,}", Text(said))
    return table


def _worth_a_line(progress: Progress) -> bool:
    """Epochs, and the end of what has many small steps."""
    return progress.trying is None and (progress.stage == "finetune" or progress.done >= progress.total)


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
