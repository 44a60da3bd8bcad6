"""``polyadic finetune``: train a saved result further, in one process or together with those of a launcher."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from polyadic.cli.data_arguments import HeldOut
from polyadic.cli.deliver import deliver, present
from polyadic.cli.finetune_arguments import FinetuneArguments
from polyadic.cli.finetuned_summary import Trained, past_of, summary_of
from polyadic.cli.goal_arguments import AlarmAt
from polyadic.cli.judge import GivenData, read_data
from polyadic.cli.judge_arguments import JudgeArguments
from polyadic.cli.model_or_result import ModelOrResult, TrustCode
from polyadic.cli.option_groups import command
from polyadic.cli.progress import ProgressBars
from polyadic.cli.run_arguments import AsJson, Seed
from polyadic.cli.screen import command_line, console
from polyadic.data import ImageData
from polyadic.errors import PolyadicError
from polyadic.export import Origin
from polyadic.models import LIBRARIES, LoadedModel
from polyadic.pipeline import CompressionResult, CompressOptions, finetune
from polyadic.reporting import read_result
from polyadic.schema import Summary
from polyadic.storage import folder_lock
from polyadic.surgery import copy_model
from polyadic.training import (
    Execution,
    ImageTask,
    SampleTask,
    Task,
    connect_processes,
    is_main_process,
    one_voice,
    several_processes,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT = ".finetune.pt"
NO_EPOCHS = "fine-tuning takes at least one epoch; got --finetune-epochs 0"


@command
def finetune_command(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="folder of a result")],
    data: JudgeArguments,
    tuning: FinetuneArguments,
    out: Annotated[Path, typer.Option(help="folder for the new result")],
    weights: Annotated[Path | None, typer.Option(help="of the dense network, which teaches")] = None,
    teacher: Annotated[
        bool, typer.Option("--teacher/--no-teacher", help="learn from the dense network too, or from labels alone")
    ] = True,
    trust_code: TrustCode = False,
    held_out: HeldOut = None,
    alarm_at: AlarmAt = CompressOptions.alarm_at,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option(help="go on with the run in OUT")] = False,
    json: AsJson = False,
) -> None:
    """Train a saved result further, on other data or on several devices, and write it to a new folder."""
    with ExitStack() as alone:
        with one_voice():
            if is_main_process():  # it alone writes
                alone.enter_context(folder_lock(out))
            if resume and (out / Summary.file).exists():
                _finish(out, json=json)
                return
            _prepare(out, resume)
            named = ModelOrResult.named(folder, trust_code=trust_code)
            if named.plan is None:
                raise PolyadicError(f"fine-tuning goes on with the folder of a result; {folder} is none")
            before = read_result(folder).result
            judge = read_data(data, seed, held_out, named.origin)
            dense = _teacher(named, weights, teacher)
            loaded = named.load(judge.images)[0]
            if judge.images is None:
                accelerator, task = None, _sample_task(tuning, judge, seed, loaded, dense)
            else:
                accelerator = connect_processes() if several_processes() else None
                task = _image_task(tuning, judge.images, seed, dense, accelerator)
            trained = _train(loaded.model, dense, task, out / CHECKPOINT, accelerator)
        if accelerator is not None:
            accelerator.end_training()
        if not is_main_process():
            return
        structure, example = dense if dense is not None else named.dense(), judge.example(loaded, task)
        known: dict[str, Any] = {} if judge.images is not None else judge.provenance(example)
        known |= {"finetuned_from": past_of(folder, before), "command": command_line()}
        summary = summary_of(before, trained, known, alarm_at)
        result = CompressionResult(trained.network, structure, summary, example)
        judged = task if judge.images is None else ImageTask(judge.images)
        deliver(result, out, judge.completed(_origin(named.origin, judge), example), judged, json=json)


def _origin(origin: Origin, judge: GivenData) -> Origin:
    """That of the folder, with the normalisation of now."""
    images = judge.images
    return origin if images is None else replace(origin, mean=images.mean, std=images.std)


def _finish(out: Path, *, json: bool) -> None:
    """Make the page of a run that ended with its result on disk, perhaps just before its page was."""
    if is_main_process():
        present(read_result(out).result, out, f"{out} holds the result: nothing is left to train", json=json)


def _prepare(out: Path, resume: bool) -> None:
    """Make sure that neither a result nor the checkpoint of another run is lost.

    Raises:
        PolyadicError: there is one.
    """
    if (out / Summary.file).exists():
        raise PolyadicError(f"{out} already holds a result: choose another folder")
    if (out / CHECKPOINT).exists() and not resume:
        raise PolyadicError(
            f"{out} holds a run that was interrupted: --resume goes on with it, or choose another folder"
        )


def _teacher(named: ModelOrResult, weights: Path | None, wanted: bool) -> nn.Module | None:
    """The dense network with its weights, which the folder does not hold.

    Raises:
        PolyadicError: they are not given, or are given for nothing.
    """
    if not wanted:
        if weights is not None:
            raise PolyadicError("--weights are those of the teacher, and there is none: leave out --no-teacher")
        return None
    model = named.origin.model
    if weights is None and model is not None and model.startswith(LIBRARIES):
        raise PolyadicError(
            f"the dense network {model} teaches, and {named.text} does not hold its weights: give them with --weights, "
            "or learn from labels alone with --no-teacher"
        )
    return named.dense(weights)


def _sample_task(
    tuning: FinetuneArguments, judge: GivenData, seed: int, loaded: LoadedModel, dense: nn.Module | None
) -> Task:
    """That of ``compress``: the dense network teaches.

    Raises:
        PolyadicError: nobody teaches, several processes, no epochs, or a task that trains nothing.
    """
    if several_processes():
        raise PolyadicError("several processes share the training on images with labels; samples are taught by one")
    if dense is None:
        raise PolyadicError(
            "on samples the dense network teaches: leave out --no-teacher; labels may teach beside it, with --loss"
        )
    task = judge.task(replace(loaded, model=dense), tuning, seed)
    if isinstance(task, SampleTask) and not task.tuning.epochs:
        raise PolyadicError(NO_EPOCHS)
    if not task.needs_gradients:
        raise PolyadicError(f"{judge.text} trains nothing: give samples, or a task with tune_network")
    return task


def _image_task(
    tuning: FinetuneArguments, images: ImageData, seed: int, dense: nn.Module | None, accelerator: Accelerator | None
) -> ImageTask:
    """That of ``compress``, on this process's device; labels alone where nobody teaches.

    Raises:
        PolyadicError: no epochs.
    """
    task = tuning.image_task(images, seed)
    if task.network is None:
        raise PolyadicError(NO_EPOCHS)
    device = "auto" if accelerator is None else str(accelerator.device)
    return replace(
        task,
        network=task.network if dense is not None else replace(task.network, distillation=0.0),
        training=Execution.for_training(device),
        accelerator=accelerator,
    )


def _train(
    network: nn.Module, dense: nn.Module | None, task: Task, checkpoint: Path, accelerator: Accelerator | None
) -> Trained:
    """Train ``network``, show how far it is, and keep what it takes to go on in ``checkpoint``."""
    untuned, bars = copy_model(network), ProgressBars()
    if accelerator is not None and isinstance(task, ImageTask) and is_main_process():
        console.print(_sharing(network, task, accelerator), highlight=False, soft_wrap=True)
    with bars if is_main_process() else nullcontext():
        # Without a teacher the network as it came stands in for it: whether it has seen the held-out images counts.
        teacher = dense if dense is not None else untuned
        done = finetune(network, teacher, task, checkpoint=checkpoint, on_progress=bars.show)
    if done is None:
        raise PolyadicError(
            f"{type(task).__name__}.tune_network reported no training: let it return a FinetuneReport, or train in a "
            "loop of your own and polyadic.save the network"
        )
    return Trained(network, untuned, dense, task, done, accelerator)


def _sharing(network: nn.Module, task: ImageTask, accelerator: Accelerator) -> str:
    """One sentence on what the processes of a launcher do, and what becomes of batch norm."""
    shared = f"{accelerator.num_processes} processes share every batch"
    norms = any(isinstance(module, _NormBase) for module in network.modules())
    if not norms or task.network is None or task.network.freeze_statistics:
        return shared
    if accelerator.device.type == "cuda":
        return f"{shared}; batch norm takes its statistics over the rows of all"
    return (
        f"{shared}; batch norm normalises the rows of each by their own statistics and keeps those of the first "
        "(torch has no shared one for the CPU): --freeze-statistics trains as one process does"
    )
