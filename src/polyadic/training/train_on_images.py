"""Fine-tuning after compression: SGD that can only improve the held-out score (schedule of Phan et al., ECCV 2020)."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from polyadic.data.images import ImageData, ImageSet
from polyadic.errors import LayerError, PolyadicError
from polyadic.layers import evaluation_mode
from polyadic.training.execution import Execution, place_model
from polyadic.training.options import EpochRecord, FinetuneOptions, FinetuneReport
from polyadic.training.several_processes import shared_batch_norm
from polyadic.training.snapshot import Checkpoint, restore, weights_digest
from polyadic.training.trainer import Job, Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator


def train_on_images(
    model: nn.Module,
    data: ImageData,
    options: FinetuneOptions,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    teacher: nn.Module | None = None,
    execution: Execution | None = None,
    select_on: ImageSet | None = None,
    on_progress: Callable[[EpochRecord], None] | None = None,
    checkpoint: Path | None = None,
    accelerator: Accelerator | None = None,
) -> FinetuneReport:
    """Train ``model`` in place and leave it at its best held-out score; it does not end worse than it began.

    After each epoch the model is scored on ``select_on``; the best state (ties: the lower loss), the starting one
    included (less ``options.handicap``), is what the model holds at the end, and also when an exception leaves this
    function. A run diverges when an objective or held-out loss is not finite, or when the cross-entropy with the
    labels, averaged over ten steps or over the held-out images, exceeds 4 L + ln(classes), L being the held-out
    cross-entropy at the start: worse than a uniform guess, however low L is. Then the best state comes back, the rate
    falls by ``decay``, and the epoch is run again, ``retries`` times at most.

    On one machine one seed gives one result, and a run that was interrupted and called again with the same model, data
    and options continues from ``checkpoint`` to the same bits. Global random states are left alone.

    Args:
        model: float32 network (n, C, H, W) -> logits (n, classes). Returns in evaluation mode, on its own device, in
            its own memory format, with its own ``requires_grad`` flags and without gradients.
        data: training and held-out images, and how to normalise them.
        options: what to do.
        parameters: the only ones that may move; batch-norm statistics then stay as they are too. When absent, every
            parameter that requires a gradient moves, and batch norm follows the training images unless
            ``options.freeze_statistics``.
        teacher: the network before compression; needed when ``options.distillation`` is above 0, else not run.
        execution: where and how; ``Execution.for_training()`` when absent.
        select_on: held-out images that choose the best state; ``data.held_out`` when absent.
        on_progress: called after each epoch, when the checkpoint is on disk.
        checkpoint: written after each epoch, removed at the end. A file of another run is ignored with a warning.
        accelerator: connects the processes that call this together, each with a network of the same structure
            (:func:`connect_processes`); the main one's weights count. Each takes its rows of every batch, and all end
            with the same weights. The main one alone calls ``on_progress`` and touches ``checkpoint``. Batch norm is
            that of :func:`shared_batch_norm`.

    Raises:
        LayerError: gradients are switched off, the model is not float32, nothing may move, a parameter is not the
            model's, or the teacher does not
            fit.
        DataError: the logits do not fit the labels.
        PolyadicError: there are more processes than images in a batch.
        StorageError: the checkpoint could not be written.
    """
    check_gradients(model)
    moving = _moving_parameters(model, parameters)
    _check(model, options, teacher)
    job = Job(
        model=model,
        data=data,
        options=options,
        teacher=teacher if options.distillation > 0 else None,
        execution=execution or Execution.for_training(),
        select_on=data.held_out if select_on is None else select_on,
        moving=moving,
        freezes_statistics=options.freeze_statistics or parameters is not None,
        accelerator=accelerator,
    )
    _check_rows(job)
    speaks = accelerator is None or accelerator.is_main_process
    store = Checkpoint(checkpoint, _run_key(job)) if checkpoint is not None and speaks else None
    with contextlib.ExitStack() as held:
        held.enter_context(_only_these_move(model, moving))
        held.enter_context(place_model(model, job.execution))
        if job.teacher is not None:
            held.enter_context(place_model(job.teacher, job.execution))
            held.enter_context(evaluation_mode(job.teacher))
        if accelerator is not None:
            held.enter_context(shared_batch_norm(model, job.execution.torch_device))
            held.callback(accelerator.free_memory)
        report = _run(Trainer(job), store, on_progress if speaks else None)
    model.eval()
    return report


def _run(
    trainer: Trainer, store: Checkpoint | None, on_progress: Callable[[EpochRecord], None] | None
) -> FinetuneReport:
    """Run epochs until one says stop; whatever happens, leave the best state in the model."""
    began = time.monotonic()
    saved = store.load() if store is not None else None
    if trainer.job.accelerator is not None:
        held: list[Any] = [saved]
        torch.distributed.broadcast_object_list(held, src=0)
        saved = held[0]
    progress = trainer.resume(saved) if saved is not None else trainer.begin()
    before = progress.seconds
    try:
        while progress.stop is None:
            trainer.run_epoch(progress)
            progress.seconds = before + time.monotonic() - began
            if store is not None:
                store.save(trainer.state(progress))
            if on_progress is not None:
                on_progress(progress.history[-1])
    finally:
        restore(trainer.changing, progress.best_weights)
    if store is not None:
        store.remove()
    return progress.report()


def _moving_parameters(model: nn.Module, parameters: Iterable[nn.Parameter] | None) -> list[nn.Parameter]:
    """Return the parameters that may move, each once, in the order of the model."""
    own = list(model.parameters())
    if parameters is None:
        free = [parameter for parameter in own if parameter.requires_grad]
        # a network that was frozen as a whole, for inference, is thawed here and frozen again at the end
        chosen = {id(parameter) for parameter in free or own if parameter.is_floating_point()}
    else:
        chosen = {id(parameter) for parameter in parameters}
        strangers = len(chosen - {id(parameter) for parameter in own})
        if strangers:
            raise LayerError(
                f"fine-tuning moves parameters of the model it is given; {strangers} of {len(chosen)} are not in it: "
                "choose them after the last layer has been replaced"
            )
    if not chosen:
        raise LayerError("fine-tuning needs at least one parameter that may move; got none: check requires_grad")
    return [parameter for parameter in own if id(parameter) in chosen]


def check_gradients(model: nn.Module) -> None:
    """Refuse to train where gradients are switched off, or weights cannot have any.

    Raises:
        LayerError: within ``torch.no_grad()`` or ``torch.inference_mode()``, or weights that were made there.
    """
    if not torch.is_grad_enabled():
        where = "torch.inference_mode()" if torch.is_inference_mode_enabled() else "torch.no_grad()"
        raise LayerError(
            f"fine-tuning takes gradients, and they are switched off ({where}): call it outside, or train nothing "
            "(ImageTask(data, layer=None, network=None))"
        )
    made = next((name for name, parameter in model.named_parameters() if parameter.is_inference()), None)
    if made is not None:
        raise LayerError(f"{made!r} was made under torch.inference_mode() and can never be trained: make it outside")


def _check(model: nn.Module, options: FinetuneOptions, teacher: nn.Module | None) -> None:
    """Refuse what would train wrongly or not at all."""
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if dtypes != {torch.float32}:
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise LayerError(f"fine-tuning keeps its weights in float32; got {names}: call model.float() first")
    if options.distillation > 0 and (teacher is None or teacher is model):
        came = "the model itself" if teacher is model else "none"
        raise LayerError(
            f"distillation {options.distillation} needs the uncompressed network as teacher; got {came}: "
            "pass a copy of it, or set distillation to 0"
        )


def _check_rows(job: Job) -> None:
    """Refuse batches that leave a process without an image."""
    sizes = (job.options.batch_size, len(job.data.train), len(job.select_on))
    if min(sizes) < job.count:
        raise PolyadicError(
            f"fine-tuning gives each of {job.count} processes a share of a batch, of the training and of the held-out "
            f"images; got {sizes[0]}, {sizes[1]} and {sizes[2]} images: start fewer processes"
        )


def _run_key(job: Job) -> str:
    """Return a digest of everything that decides what the run computes."""
    names = [name for name, parameter in job.model.named_parameters() if any(parameter is own for own in job.moving)]
    labels = hashlib.sha256()
    for images in (job.data.train, job.select_on):
        labels.update(images.labels.contiguous().numpy().tobytes())
    parts = (
        job.options,
        (job.execution.torch_device.type, job.execution.precision, job.execution.channels_last),
        (job.data.name, sorted(job.data.digests.items()), job.data.mean, job.data.std, labels.hexdigest()),
        (names, job.freezes_statistics),
        weights_digest(job.model),
        None if job.teacher is None else weights_digest(job.teacher),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@contextlib.contextmanager
def _only_these_move(model: nn.Module, moving: list[nn.Parameter]) -> Iterator[None]:
    """Let gradients flow to ``moving`` alone, so that the backward pass ends at the first of them; then undo it."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    chosen = {id(parameter) for parameter in moving}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
            parameter.grad = None
