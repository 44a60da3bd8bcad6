"""``polyadic evaluate``: the score of a saved result, from its files alone, or of any network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from polyadic.cli.arguments import AsJson, Data, Mean, Std, Weights, emit, model_of, numbers, reported
from polyadic.data import load_data
from polyadic.errors import PolyadicError
from polyadic.export import load, origin_of, read_plan
from polyadic.surgery import network_cost
from polyadic.training import ImageTask


@reported
def evaluate(
    target: Annotated[str, typer.Argument(metavar="DIR|MODEL", help="folder of a result, or a model as in compress")],
    data: Data,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="run the code that a result in DIR names")] = False,
    json: AsJson = False,
) -> None:
    """Score a saved result, or a network with its weights, on the test images."""
    folder = Path(target)
    saved = folder.is_dir()
    if saved and weights is not None:
        raise PolyadicError(f"{folder} holds its own weights: leave out --weights")
    origin = origin_of(read_plan(folder)) if saved else None
    means, stds = numbers(mean, "--mean"), numbers(std, "--std")
    if origin is not None:
        means, stds = means or origin.mean, stds or origin.std
    images = load_data(data, mean=means, std=stds)
    model = load(folder, trust_code=trust_code) if saved else model_of(target, weights, images)[0].model
    scores = ImageTask(images).final_scores((model,))
    cost = network_cost(model, images.example(1))
    if json:
        emit(
            {
                "target": target,
                "score": scores.values[0],
                "score_name": "top-1 accuracy",
                "images": len(images.test),
                **asdict(cost),
            }
        )
        return
    Console().print(
        f"{target}: top-1 accuracy {100 * scores.values[0]:.2f} % on {len(images.test):,} test images; "
        f"{cost.params:,} parameters, {cost.macs:,} MACs for one image (FLOPs = 2 x MACs)",
        highlight=False,
    )
