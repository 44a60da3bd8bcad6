"""The view of a running search, with a clock and a terminal of the test."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from stage import World, run

from polyadic.cli.progress import LiveView, front_of
from polyadic.pipeline import Progress, TriedPlan
from polyadic.schema import Choice, Cost, Plan


class Clock:
    """A clock that stands still unless it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def plan(macs: int, drop: float, divergence: float | None = None, name: str = "conv") -> TriedPlan:
    choices = tuple(Choice(f"{name}{at}", "svd", (macs,)) for at in (1, 2))
    return TriedPlan(Plan(choices), Cost(params=macs // 10, macs=macs, bytes=macs), drop, divergence)


def step(done: int, tried: TriedPlan, whole: bool = True) -> Progress:
    return Progress("search", done, 20, f"2 layers: drop {tried.drop:.2f} points", tried=tried, whole=whole)


def shown(view: LiveView) -> str:
    screen = Console(file=io.StringIO(), width=110)
    screen.print(view.view())
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_the_front_is_what_no_other_beats() -> None:
    tried = [plan(500, 9.0), plan(900, 1.0), plan(600, 9.5), plan(800, 1.5), plan(950, 1.0)]
    assert [one.cost.macs for one in front_of(tried)] == [500, 800, 900]
    by_loss = [plan(500, 1.0, 0.5), plan(900, 9.0, 0.1), plan(800, 0.0, 0.6)]
    assert [one.cost.macs for one in front_of(by_loss)] == [500, 900]


def test_the_view_says_what_is_tried_since_when_and_what_is_best() -> None:
    clock = Clock()
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), clock)
    view.show(step(1, plan(500, 9.0)))
    view.show(step(2, plan(700, 9.5)))
    view.show(step(3, plan(77, 0.25), whole=False))
    clock.now += 3600
    view.show(Progress("search", 3, 20, trying="conv1 [red]svd[/] 4"))
    clock.now += 65
    text = shown(view)
    assert "elapsed 1:01:05" in text
    assert "search 3 of about 20" in text
    assert "trying conv1 [red]svd[/] 4, 0:01:05" in text
    front, _, last = text.partition("the last trials")
    assert "500" in front
    assert "700" not in front
    assert "77" not in front
    assert "drop 0.25 points" in last
    view.show(Progress("replace", 1, 2, "conv1"))
    assert "trying" not in shown(view)
    assert "replace 1 of 2: conv1" in shown(view)


def test_a_long_front_keeps_the_least_lossy_and_says_so() -> None:
    view = LiveView(Console(file=io.StringIO(), force_terminal=True))
    for at in range(13):
        view.show(step(at + 1, plan(1000 + at, 20.0 - at)))
    text = shown(view)
    assert "(3 cheaper and worse ones not shown)" in text
    assert "1,012" in text.partition("the last trials")[0]
    assert "1,002" not in text


def test_without_a_terminal_there_is_a_line_for_each_trial() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out, force_terminal=False, width=60), Clock()) as view:
        view.show(Progress("decompose", 1, 2, "conv1"))
        view.show(Progress("decompose", 2, 2, "conv2"))
        view.show(Progress("search", 0, 20, trying="2 layers"))
        view.show(step(1, plan(500, 9.0)))
        view.show(Progress("finetune", 1, 5, "loss 1.0"))
    assert out.getvalue().splitlines() == [
        "0:00:00 decompose 2 of 2: conv2",
        "0:00:00 search 1 of about 20: 2 layers: drop 9.00 points",
        "0:00:00 finetune 1 of 5: loss 1.0",
    ]


def test_a_terminal_is_drawn_on_and_left_with_the_last_view() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out, force_terminal=True, width=100)) as view:
        view.show(step(1, plan(12_345, 9.0)))
    assert "12,345" in out.getvalue()
    assert "the front so far" in out.getvalue()


def test_search_and_compress_take_the_option(world: World, tmp_path: Path) -> None:
    words = ("--weights", world.weights, "--data", world.data, "--formats", "tucker2", "--budget", "macs=70%")
    quick = ("--search", "uniform", "--live", "--json")
    done = run("search", world.model, *words, *quick, "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "search 1 of about 1: " in done.stderr
    done = run("compress", world.model, *words, *quick, "--finetune-epochs", 0, "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output
    assert "search 1 of about 1: " in done.stderr
