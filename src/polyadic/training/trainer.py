"""One epoch of SGD at a time: steps, divergence watch, held-out score, and the state that a checkpoint keeps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from polyadic.data.images import ImageData, ImageSet
from polyadic.errors import LayerError
from polyadic.training.augment import augment, mix_images, mixing_weights
from polyadic.training.execution import Execution, repeatable
from polyadic.training.objective import mixture_cross_entropy, soft_divergence, teacher_logits
from polyadic.training.options import EpochRecord, FinetuneOptions
from polyadic.training.score_images import Score, score_images
from polyadic.training.snapshot import TrainingState, capture, restore

if TYPE_CHECKING:
    from accelerate import Accelerator

WATCHED_STEPS = 10
"""Losses are read from the device, and judged, this many steps at a time."""


@dataclass(frozen=True)
class Job:
    """The arguments of ``train_on_images``, its defaults filled in.

    Attributes:
        moving: the parameters that SGD changes.
        freezes_statistics: normalisation layers stay in evaluation mode.
    """

    model: nn.Module
    data: ImageData
    options: FinetuneOptions
    teacher: nn.Module | None
    execution: Execution
    select_on: ImageSet
    moving: list[nn.Parameter]
    freezes_statistics: bool
    accelerator: Accelerator | None

    @property
    def rank(self) -> int:
        """Which process this is, from 0."""
        return 0 if self.accelerator is None else self.accelerator.process_index

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1 if self.accelerator is None else self.accelerator.num_processes

    def rows(self, total: int) -> slice:
        """The rows of ``total`` that are this process's: contiguous and disjoint; numbers differ by at most 1."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def total(self, share: Tensor) -> Tensor:
        """The sum of all processes' ``share``."""
        summed: Tensor = share if self.accelerator is None else self.accelerator.reduce(share, "sum")
        return summed


class Trainer:
    """The moving parts of a run: optimiser, random generator, and the tensors that change."""

    def __init__(self, job: Job) -> None:
        """Of several processes all start from the main one's parameters and buffers."""
        self.job = job
        self.network: Callable[[Tensor], Tensor] = job.model
        self.backward: Callable[[Tensor], None] = torch.autograd.backward
        if job.accelerator is not None:
            self.network = job.accelerator.prepare_model(job.model, device_placement=False)
            self.backward = job.accelerator.backward
        self.labels = job.data.train.labels
        self.changing: list[Tensor] = [*job.moving, *job.model.buffers()]
        self.generator = Generator().manual_seed(job.options.seed)
        self.optimizer = self._new_optimizer()

    def begin(self) -> TrainingState:
        """Score the model as it came."""
        start = self._score()
        return TrainingState(start=start, best=start, best_weights=capture(self.changing))

    def state(self, progress: TrainingState) -> dict[str, Any]:
        """Return everything that ``resume`` needs."""
        return {
            "progress": progress.to_state(),
            "weights": capture(self.changing),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def resume(self, state: dict[str, Any]) -> TrainingState:
        """Go back to where ``state`` was taken."""
        progress = TrainingState.from_state(state["progress"])
        restore(self.changing, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        return progress

    def run_epoch(self, progress: TrainingState) -> None:
        """Train one epoch, score it and record it; a divergence puts the best state back."""
        began = time.monotonic()
        options = self.job.options
        bound = divergence_bound(progress.start, self.job.data.classes)
        loss, stable = self._train(progress, bound)
        if self.job.accelerator is not None:
            share_buffers(self.job.model)
        rate = float(self.optimizer.param_groups[0]["lr"])
        score = self._score() if stable else None
        number = progress.epoch + 1
        diverged = score is None or not score.loss <= bound
        if score is None or diverged:
            restore(self.changing, progress.best_weights)
            self.optimizer = self._new_optimizer()  # the old momentum points to where the loss exploded
            progress.fail_epoch(options)
        else:
            progress.finish_epoch(score, self.changing, options)
        progress.history.append(
            EpochRecord(
                epoch=number,
                loss=loss,
                score=None if score is None else score.value,
                score_loss=None if score is None else score.loss,
                learning_rate=rate,
                seconds=time.monotonic() - began,
                diverged=diverged,
            )
        )

    def _train(self, progress: TrainingState, bound: float) -> tuple[float, bool]:
        """Run the steps of one epoch; return their mean objective, and False as soon as it diverges."""
        job, options = self.job, self.job.options
        steps = options.steps_per_epoch or max(len(self.labels) // options.batch_size, 1)
        batches = shuffled_batches(len(self.labels), options.batch_size, self.generator)
        done, total = progress.epoch * steps, 0.0
        pending: list[Tensor] = []
        mask_seed = int(torch.randint(2**62, (), generator=self.generator))
        with repeatable(job.execution.torch_device, mask_seed + job.rank):
            self._training_mode()
            for step in range(steps):
                shape = options.rate_shape(done + step, options.epochs * steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = options.learning_rate * progress.rate_scale * shape
                pending.append(self._step(next(batches)))
                if len(pending) < WATCHED_STEPS and step < steps - 1:
                    continue
                objective, label_loss = job.total(torch.stack(pending).double().mean(dim=0)).tolist()
                total += objective * len(pending)
                if not (math.isfinite(objective) and label_loss <= bound):
                    return total / (step + 1), False
                pending.clear()
        return total / steps, True

    def _step(self, index: Tensor) -> Tensor:
        """One step of SGD on the images at ``index``, of which a process takes its rows.

        Returns:
            This process's share of (objective, cross-entropy with the labels) (2,): they are the sums over processes.
        """
        job, options = self.job, self.job.options
        rows = job.rows(len(index))
        share = len(index[rows]) / len(index)
        images, cross_entropy = self._images(index, rows)
        images = augment(images, options.augmentation, self.generator, rows, of=len(index))
        batch = job.execution.place(job.data.normalise(job.execution.place(images)))
        with job.execution.autocast():
            logits = self.network(batch)
        logits = logits.float()
        loss, label_loss = cross_entropy(logits)
        if job.teacher is not None:
            taught = teacher_logits(job.teacher, batch, job.execution)
            if taught.shape != logits.shape:
                raise LayerError(
                    f"teacher and student classify into the same classes; got logits {tuple(taught.shape)} and "
                    f"{tuple(logits.shape)}: teach with the network that was compressed"
                )
            soft = soft_divergence(logits, taught, options.temperature)
            loss = torch.lerp(loss, soft, options.distillation)
        if not loss.requires_grad:
            raise LayerError("fine-tuning needs parameters that the logits depend on, and these do not: choose others")
        self.optimizer.zero_grad(set_to_none=True)
        # The mean over processes of count x share x (mean over a process's rows) is the mean over all rows.
        self.backward(loss * (job.count * share))
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(job.moving, options.clip_norm)
        self.optimizer.step()
        return torch.stack((loss.detach(), label_loss.detach())) * share

    def _images(self, index: Tensor, rows: slice) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """This process's images of the batch at ``index``, mixed or as they are.

        Returns:
            Images, and what their labels say of logits: the loss, and the one that is watched for divergence.
        """
        train, device = self.job.data.train, self.job.execution.torch_device
        images, labels = train.images(index[rows]), self.labels[index[rows]].to(device)
        if not self.job.options.mixing:
            return images, lambda logits: (F.cross_entropy(logits, labels),) * 2
        weights = mixing_weights(len(index), self.generator)[rows]
        partners = index.roll(1)[rows]
        images = mix_images(images, train.images(partners), weights)
        others = self.labels[partners].to(device)
        return images, partial(mixture_cross_entropy, labels=labels, others=others, weights=weights.to(device))

    def _score(self) -> Score:
        """Score the model on the images that choose the best state, of which a process takes its rows."""
        job = self.job
        execution = replace(job.execution, precision=job.options.score_precision)
        count, rows = len(job.select_on), job.rows(len(job.select_on))
        own = score_images(
            job.model, job.select_on.take(torch.arange(count)[rows]), job.data.normalise, execution=execution
        )
        if job.accelerator is None:
            return own
        parts = torch.zeros(count + 1, dtype=torch.float64, device=job.accelerator.device)
        parts[:count][rows] = own.correct.to(parts)
        parts[count] = own.loss * len(own.correct)
        parts = job.total(parts).cpu()
        correct = parts[:count].bool()
        return Score(value=int(correct.sum()) / count, correct=correct, loss=float(parts[count]) / count)

    def _training_mode(self) -> None:
        """Put the model in training mode, normalisation layers only where their statistics may move."""
        self.job.model.train()
        if self.job.freezes_statistics:
            for module in self.job.model.modules():
                if isinstance(module, _NormBase):
                    module.eval()

    def _new_optimizer(self) -> torch.optim.SGD:
        """Return SGD without momentum history."""
        options = self.job.options
        return torch.optim.SGD(
            self.job.moving, lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
        )


def divergence_bound(start: Score, classes: int) -> float:
    """Return the cross-entropy above which a run counts as diverged: 4 L + ln(classes), L that of ``start``.

    ln(classes) is the loss of a uniform guess, so a network that begins near zero is not stopped for being uncertain.
    Where L is not finite the uniform guess stands in for it.
    """
    guess = math.log(max(classes, 2))
    return 4 * (start.loss if math.isfinite(start.loss) else guess) + guess


def shuffled_batches(count: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """Yield index batches int64 (batch_size,) without end, each pass over ``count`` images in a new order.

    The last partial batch of a pass is left out, except where it is the only one.
    """
    while True:
        order = torch.randperm(count, generator=generator)
        for first in range(0, max(count - batch_size, 0) + 1, batch_size):
            yield order[first : first + batch_size]


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Give all processes the main one's buffers: what layers keep of the rows that they have seen differs."""
    for buffer in model.buffers():
        plain = buffer.contiguous()
        torch.distributed.broadcast(plain, src=0)
        buffer.copy_(plain)
