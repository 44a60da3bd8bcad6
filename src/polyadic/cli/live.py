"""The view of a running search on the terminal: the front so far, the last trials, what is being tried, the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from polyadic.pipeline import Progress, TriedPlan

SHOWN = 10
"""Rows of the front, and of the last trials half as many."""


class LiveView:
    """Redraws itself on a terminal; writes one line per step where there is none."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw nothing yet; ``clock`` counts seconds."""
        self._console, self._clock = console, clock
        self._began = self._since = clock()
        self._stages: dict[str, Progress] = {}
        self._trying: str | None = None
        self._last: list[tuple[str, TriedPlan]] = []
        self._wholes: dict[object, TriedPlan] = {}
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self.view, refresh_per_second=4)

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


def front_of(tried: list[TriedPlan]) -> list[TriedPlan]:
    """The plans that no other beats in MACs and harm, cheapest first.

    Harm is the loss where all of them have it, else the drop.
    """
    by_loss = all(one.divergence is not None for one in tried)
    best: list[TriedPlan] = []
    for one in sorted(tried, key=lambda one: (one.cost.macs, _harm(one, by_loss))):
        if not best or _harm(one, by_loss) < _harm(best[-1], by_loss):
            best.append(one)
    return best


def _harm(one: TriedPlan, by_loss: bool) -> float:
    return one.divergence if by_loss and one.divergence is not None else one.drop


def _front_table(front: list[TriedPlan]) -> Table:
    """The best plans so far, the least harmful ones where there are too many."""
    hidden = max(len(front) - SHOWN, 0)
    cheaper = f" ({hidden} cheaper and worse ones not shown)" if hidden else ""
    table = Table("layers", "MACs", "parameters", "drop, points", "divergence", title=f"the front so far{cheaper}")
    for one in front[-SHOWN:]:
        divergence = "" if one.divergence is None else f"{one.divergence:.4f}"
        macs, params = f"{one.cost.macs:,}", f"{one.cost.params:,}"
        table.add_row(str(len(one.plan.choices)), macs, params, f"{one.drop:.2f}", divergence)
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
