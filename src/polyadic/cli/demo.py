"""``polyadic demo``: the main job in a minute, on data that needs no download."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from polyadic.cli.deliver import OVER_BUDGET, print_summary, save_and_reload, with_provenance
from polyadic.cli.finetune_arguments import image_task
from polyadic.cli.option_groups import command
from polyadic.cli.progress import ProgressBars
from polyadic.cli.run_arguments import AsJson, Seed
from polyadic.cli.screen import console, emit, say
from polyadic.data import load_data
from polyadic.errors import PolyadicError
from polyadic.export import Origin
from polyadic.models import load_model
from polyadic.pipeline import CompressOptions, compress
from polyadic.reporting import report
from polyadic.storage import folder_lock
from polyadic.training import NETWORK_TUNING, Augmentation, FinetuneOptions, train_on_images

MODEL = "polyadic:digits-cnn"
TRAINING = FinetuneOptions(
    epochs=15, batch_size=64, learning_rate=0.1, schedule="cosine", warmup=0.1, augmentation=Augmentation.none()
)


@command
def demo_command(
    out: Annotated[Path | None, typer.Option(help="folder for the result; a temporary one when absent")] = None,
    max_drop: Annotated[float, typer.Option(help="points of accuracy that may be lost")] = 1.0,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Train a small network on handwritten digits, compress it, reload it, and show what happened."""
    if out is not None and out.exists() and any(out.iterdir()):
        raise PolyadicError(f"the demo writes to a folder of its own; {out} is not empty: choose another")
    data = load_data("digits", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = load_model(MODEL, classes=data.classes).model
    console.print(f"training {MODEL} on {len(data.train)} digits of 8 x 8 pixels", highlight=False)
    train_on_images(model, data, TRAINING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        with folder_lock(folder):
            # the network never saw the held-out digits: what it loses there is what it loses
            options = CompressOptions(seed=seed, work=folder, finetune_recovery_factor=1.0)
            task = image_task(data, seed, replace(NETWORK_TUNING, epochs=20))
            with ProgressBars() as bars:
                result = compress(model, task, max_drop=max_drop, options=options, on_progress=bars.show)
            result = with_provenance(result, {"command": "polyadic demo", "model": MODEL})
            origin = Origin(MODEL, data.classes, data.mean, data.std, tuple(data.image_shape))
            reloaded = save_and_reload(result, folder, origin, task)
            report(folder)
    if json:
        emit({"reloaded_score": reloaded, **result.summary.to_json()})
    else:
        print_summary(result.summary)
        where = f"kept in {out}" if out else "not kept (give --out DIR to keep it)"
        say(f"saved, read back and scored again: {100 * reloaded:.2f} %; {where}")
    if result.summary.drop > max_drop:
        raise typer.Exit(OVER_BUDGET)
