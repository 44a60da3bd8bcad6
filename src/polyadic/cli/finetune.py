"""``polyadic finetune``: train a saved result further, in one process or together with those of a launcher."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from polyadic.cli.data_arguments import HeldOut
from polyadic.cli.deliver import deliver, present
from polyadic.cli.finetune_arguments import FinetuneArguments
from polyadic.cli.goal_arguments import AlarmAt
from polyadic.cli.judge import GivenData, read_data
from polyadic.cli.judge_arguments import JudgeArguments
from polyadic.cli.model_or_result import ModelOrResult, TrustCode
from polyadic.cli.option_groups import command
from polyadic.cli.progress import ProgressBars
from polyadic.cli.run_arguments import AsJson, Seed
from polyadic.cli.screen import command_line, console
from polyadic.data import ImageData
from polyadic.engines import environment
from polyadic.errors import PolyadicError
from polyadic.export import Origin
from polyadic.models import LIBRARIES, LoadedModel
from polyadic.pipeline import CompressionResult, CompressOptions, finetune, warnings_of
from polyadic.pipeline.alarm import Verdict, compare_answers
from polyadic.reporting import read_result
from polyadic.schema import Summary
from polyadic.storage import folder_lock
from polyadic.surgery import copy_model
from polyadic.training import (
    Execution,
    FinetuneReport,
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


@dataclass(frozen=True, eq=False)
class _Trained:
    """What came of it.

    Attributes:
        network: the compressed network, trained.
        untuned: as it came.
        dense: the teacher; None where labels alone taught.
        task: what it was trained and is scored on.
        report: of the fine-tuning.
        accelerator: of the processes that shared it; None where there was one.
    """

    network: nn.Module
    untuned: nn.Module
    dense: nn.Module | None
    task: Task
    report: FinetuneReport
    accelerator: Accelerator | None = None


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
        known |= {"finetuned_from": _past(folder, before), "command": command_line()}
        summary = _summary(before, trained, known, alarm_at)
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
) -> _Trained:
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
    return _Trained(network, untuned, dense, task, done, accelerator)


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


def _past(folder: str, before: Summary) -> dict[str, Any]:
    """What the folder says of the training so far."""
    known = before.provenance
    return {
        "folder": folder,
        "score": before.compressed_score,
        "command": known.get("command"),
        "epochs": len(known.get("finetuning", ())),
        **({"finetuned_from": known["finetuned_from"]} if "finetuned_from" in known else {}),
    }


def _summary(before: Summary, trained: _Trained, known: dict[str, Any], alarm_at: float) -> Summary:
    """What was known of the network, with the scores of now.

    The dense network's are taken anew where it is there, else they are those of the folder, if its images are the same.
    """
    task, began = trained.task, time.monotonic()
    # "scored" is of a loop of the user's own, "pixels" of other samples
    past = {key: value for key, value in before.provenance.items() if key not in ("scored", "pixels")}
    provenance = {**past, **environment(), **task.provenance()}
    same = all(before.provenance.get(key) == provenance.get(key) for key in ("data", "data_digests", "samples_digest"))
    dense = [] if trained.dense is None else [trained.dense]
    scores = task.final_scores((*dense, trained.untuned, trained.network))
    held_out = task.score(trained.dense) if trained.dense is not None else before.held_out.get("dense", nan)
    dense_score = scores.values[0] if dense else before.dense_score if same else nan
    words = task.words
    summary = replace(
        before,
        dense_score=dense_score,
        score_name=words.name,
        score_is_fraction=words.fraction,
        score_unit=words.unit,
        judged_on=words.judged_on,
        max_drop=before.max_drop if (words.name, words.drop_unit) == _unit_of(before) else None,
        score_before_finetuning=scores.values[-2],
        compressed_score=scores.values[-1],
        drop_interval=scores.drop_interval if dense else None,
        held_out={
            "dense": held_out if dense or same else nan,
            "before_finetuning": trained.report.start.value,
            "compressed": trained.report.best.value,
        },
        seconds={"finetune": round(trained.report.seconds, 3), "test": round(time.monotonic() - began, 3)},
        provenance={
            **provenance,
            "finetuning_stop": trained.report.stop.value,
            "finetuning": [vars(record) for record in trained.report.history],
            "finetuning_processes": 1 if trained.accelerator is None else trained.accelerator.num_processes,
            "taught_by": "the dense network" if dense else "labels alone",
            **known,
            **_verdict(trained, (dense_score, scores.values[-1])).provenance(alarm_at),
        },
    )
    return replace(summary, warnings=warnings_of(summary))


def _unit_of(before: Summary) -> tuple[str, str]:
    """In which its drops are."""
    return before.words.name, before.words.drop_unit


def _verdict(trained: _Trained, scores: tuple[float, float]) -> Verdict:
    """What is lost of the dense network's answers; of images with labels by the scores, else by the outputs."""
    task, dense = trained.task, trained.dense
    if dense is None:
        return Verdict(task.answers_lost(scores, nan), task.judged_on or "samples")
    example = task.example_input()
    return compare_answers(task, dense, trained.network, scores, () if example is None else example)
