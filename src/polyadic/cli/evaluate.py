"""``polyadic evaluate``: the score of a saved result, from its files alone, or of any network."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from polyadic.cli.judge import GivenData, read_data
from polyadic.cli.judge_arguments import JudgeArguments
from polyadic.cli.model_or_result import ModelOrResult, TrainedModelOrResultArguments
from polyadic.cli.option_groups import command
from polyadic.cli.run_arguments import AsJson
from polyadic.cli.screen import emit, say, warn
from polyadic.errors import PolyadicError
from polyadic.factory import NamedObject
from polyadic.models import LIBRARIES, LoadedModel
from polyadic.surgery import network_cost
from polyadic.training import ImageTask, SampleTask, Task


@command
def evaluate_command(
    target: TrainedModelOrResultArguments,
    data: JudgeArguments,
    dense_weights: Annotated[
        Path | None,
        typer.Option(help="of the dense network, whose outputs those of a folder are compared with on samples"),
    ] = None,
    json: AsJson = False,
) -> None:
    """Score a saved result, or a network with its weights, on test images or on samples."""
    named = target.read()
    judge = read_data(data, origin=named.origin)
    loaded, _ = named.load(judge.images)
    task = _task(judge, named, loaded, dense_weights)
    score = task.final_scores((loaded.model,)).values[0]
    doubt = task.doubt_of(score, test=True)
    cost = network_cost(loaded.model, judge.example(loaded, task))
    where, count = _judged_on(task)
    if json:
        known = {"target": target.target, "score": score, "score_name": task.score_name, "score_unit": task.score_unit}
        counted = {} if count is None else {"images" if isinstance(task, ImageTask) else "samples": count}
        emit({**known, **counted, **asdict(cost), "warnings": [] if doubt is None else [doubt]})
        return
    say(
        f"{target.target}: {task.score_name} {task.words.said(score)}{where}; "
        f"{cost.params:,} parameters, {cost.macs:,} MACs for one sample (FLOPs = 2 x MACs)"
    )
    if doubt is not None:
        warn(doubt)


def _judged_on(task: Task) -> tuple[str, int | None]:
    """On what the score was taken, in words, and how many there are."""
    if isinstance(task, ImageTask):
        count = len(task.data.test)
        return f" on {count:,} test images", count
    if isinstance(task, SampleTask) and task.judged_on is not None:
        samples = task.last_count
        return f" on the {samples:,} last samples, which chose nothing", samples
    return "" if task.judged_on is None else f" on the {task.judged_on}", None


def _task(judge: GivenData, named: ModelOrResult, loaded: LoadedModel, weights: Path | None) -> Task:
    """By what the network is judged; the dense one is built only where outputs are compared with its own.

    Raises:
        PolyadicError: that takes a dense network, and there is none.
    """
    if judge.images is not None:
        return ImageTask(judge.images)
    if judge.compares_outputs:
        return judge.task(dense_beside(named, loaded, weights), None, 0)
    task = judge.task(loaded, None, 0)
    if isinstance(judge.made, NamedObject) and isinstance(task, SampleTask) and task.metric is None:
        return judge.task(dense_beside(named, loaded, weights), None, 0)
    return task


def dense_beside(named: ModelOrResult, loaded: LoadedModel, weights: Path | None) -> LoadedModel:
    """The dense network of a folder, whose outputs those of the compressed one are compared with.

    Args:
        named: the folder.
        loaded: the compressed network.
        weights: of the dense one, where the folder does not name code that builds it with its own.

    Raises:
        PolyadicError: there is none.
    """
    if named.plan is None:
        raise PolyadicError(
            f"without a metric a network's outputs are compared with those of its dense network, and {named.text} is "
            "one: give --metric, images with labels, or the folder of a result"
        )
    model = named.origin.model
    if weights is None and model is not None and model.startswith(LIBRARIES):
        raise PolyadicError(
            f"outputs are compared with those of the dense network {model}, whose weights {named.text} does not hold: "
            "give them with --dense-weights, or a --metric"
        )
    return replace(loaded, model=named.dense(weights))
