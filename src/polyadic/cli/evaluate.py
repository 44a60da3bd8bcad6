"""``polyadic evaluate``: the score of a saved result, from its files alone, or of any network."""

from __future__ import annotations

from dataclasses import asdict

from polyadic.cli.arguments import AsJson, DataArguments
from polyadic.cli.model_or_result import TrainedModelOrResultArguments
from polyadic.cli.option_groups import command
from polyadic.cli.screen import emit, say, warn
from polyadic.surgery import network_cost
from polyadic.training import ImageTask


@command
def evaluate_command(target: TrainedModelOrResultArguments, data: DataArguments, json: AsJson = False) -> None:
    """Score a saved result, or a network with its weights, on the test images."""
    named = target.read()
    images = data.load(origin=named.origin)
    loaded, _ = named.load(images)
    task = ImageTask(images)
    score = task.final_scores((loaded.model,)).values[0]
    doubt = task.doubt_of(score, test=True)
    cost = network_cost(loaded.model, images.example(1))
    if json:
        known = {"target": target.target, "score": score, "score_name": "top-1 accuracy", "images": len(images.test)}
        emit({**known, **asdict(cost), "warnings": [] if doubt is None else [doubt]})
        return
    say(
        f"{target.target}: top-1 accuracy {100 * score:.2f} % on {len(images.test):,} test images; "
        f"{cost.params:,} parameters, {cost.macs:,} MACs for one image (FLOPs = 2 x MACs)"
    )
    if doubt is not None:
        warn(doubt)
