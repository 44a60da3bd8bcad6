"""The fine-tuning of a network of any kind: the dense network's outputs on samples without labels are what it follows.

The teacher's answers do not change from epoch to epoch, so they are asked for once and kept where they fit into memory.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.layers import device_of, evaluation_mode, on_device
from polyadic.training.execution import Execution, place_model
from polyadic.training.options import EpochRecord, FinetuneReport, FinetuneStop
from polyadic.training.outputs import tensors_of
from polyadic.training.samples import MOST_BYTES
from polyadic.training.score_images import Score
from polyadic.training.snapshot import Checkpoint, Weights, capture, restore

LESS, LEAST = 3.0, 100.0
"""By what the learning rate is divided when an epoch is undone, and at most altogether."""


@dataclass(frozen=True)
class DistillOptions:
    """How a network is taught by the dense one, without labels unless there is a loss.

    Attributes:
        epochs: passes over the samples; 0 trains nothing.
        learning_rate: of Adam at its highest; it rises over the first tenth of all steps and falls along half a cosine.
            An epoch that leaves the network worse than it came, before any has made it better, is undone, and the rate
            is a third from there on: what a toy takes shakes a deep chain apart. The history says which rates were
            taken. Not so with a metric, whose steps would be taken for that.
        distillation: w in (1 - w) loss(outputs, batch) + w (distance from the dense network's outputs); without a loss
            it counts as 1.
        clip_norm: the largest 2-norm of the whole gradient.
        minutes: after which the training has ended, whatever ``epochs`` asks for; the learning rate falls in time for
            it. What comes out then depends on the machine. None sets no limit.
        seed: of the order of the batches.

    Raises:
        PolyadicError: a value outside its range; the message names the field.
    """

    epochs: int = 10
    learning_rate: float = 3e-4
    distillation: float = 0.5
    clip_norm: float = 1.0
    minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, law in (
            ("epochs", self.epochs >= 0, "0 or more"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "finite and above 0"),
            ("distillation", 0 <= self.distillation <= 1, "from 0 to 1"),
            ("clip_norm", 0 < self.clip_norm < math.inf, "finite and above 0"),
            ("minutes", self.minutes is None or 0 < self.minutes < math.inf, "finite and above 0, or None"),
        ):
            if not holds:
                raise PolyadicError(f"distillation option {name} is {law}; got {getattr(self, name)!r}")


@dataclass
class Distillation:
    """A run of the fine-tuning: what it is given, what changes, and what is kept of it after each epoch.

    Attributes:
        model: that learns.
        teacher: that answers.
        batches: to learn from.
        options: how.
        outputs: from a network and a batch on its device to what it answers.
        objective: from outputs, the teacher's, and the batch to what a step makes smaller.
        score: of the model as it is; the state of least ``loss`` stays.
        lowers_rate: whether the score is smooth enough to tell that the learning rate is too high.
        store: where an interrupted run goes on from; None keeps nothing.
    """

    model: nn.Module
    teacher: nn.Module
    batches: Sequence[Any]
    options: DistillOptions
    outputs: Callable[[nn.Module, Any], Any]
    objective: Callable[[Any, list[Tensor], Any], Tensor]
    score: Callable[[], Score]
    lowers_rate: bool
    store: Checkpoint | None
    history: list[EpochRecord] = field(default_factory=list)
    seconds: float = 0.0
    divided_by: float = 1.0
    taught: dict[int, list[Tensor]] = field(default_factory=dict)
    taught_bytes: int = 0

    def run(self, on_epoch: Callable[[EpochRecord, int], None]) -> FinetuneReport:
        """All epochs; the model holds the best state at the end, and also when something goes wrong."""
        model, options = self.model, self.options
        moving = [p for p in model.parameters() if p.requires_grad] or list(model.parameters())
        moving = [p for p in moving if p.is_floating_point()]
        frozen = [p for p in model.parameters() if not p.requires_grad]
        changing: list[Tensor] = [*moving, *model.buffers()]
        execution = Execution(device=str(device_of(model)))
        with place_model(model, execution), place_model(self.teacher, execution):
            optimizer = torch.optim.Adam(moving, lr=options.learning_rate)
            start = self.score()
            best, best_epoch, weights, stop = start, 0, capture(changing), FinetuneStop.COMPLETED
            saved = None if self.store is None else self.store.load()
            if saved is not None:
                start, best, best_epoch, weights = self._gone_on_with(saved, changing, optimizer)
            try:
                for parameter in moving:
                    parameter.requires_grad_(True)
                while len(self.history) < options.epochs and self._progress(0.0) < 1.0:
                    record, score = self._epoch(optimizer, moving)
                    self.history.append(record)
                    if record.diverged:
                        stop = FinetuneStop.DIVERGED
                    elif score.loss < best.loss:
                        best, best_epoch, weights = score, record.epoch, capture(changing)
                    elif self._is_shaken(score, start, best_epoch):
                        restore(changing, weights)
                        optimizer.state.clear()
                        self.divided_by *= LESS
                    self._save(start, best, best_epoch, weights, changing, optimizer)
                    on_epoch(record, options.epochs)
                    if record.diverged:
                        break
            finally:
                restore(changing, weights)
                for parameter in moving:
                    parameter.grad = None
                for parameter in frozen:
                    parameter.requires_grad_(False)
        if self.store is not None:
            self.store.remove()
        return FinetuneReport(start, best, best_epoch, tuple(self.history), stop, self.seconds)

    def _epoch(self, optimizer: torch.optim.Optimizer, moving: list[nn.Parameter]) -> tuple[EpochRecord, Score]:
        """One pass over the batches in an order of its own, or as far as the time goes."""
        options, began, total, steps = self.options, time.monotonic(), 0.0, 0
        before, epoch, diverged = self.seconds, len(self.history), False
        order = list(range(len(self.batches)))
        random.Random(f"{options.seed} {epoch}").shuffle(order)
        with evaluation_mode(self.model), evaluation_mode(self.teacher):
            for number, index in enumerate(order):
                self.seconds = before + time.monotonic() - began
                progress = self._progress((epoch * len(order) + number) / (options.epochs * len(order)))
                if progress >= 1.0:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = self._rate(progress)
                batch = on_device(self.batches[index], device_of(self.model))
                value = self.objective(self.outputs(self.model, batch), self._answer(index, batch), batch)
                total, steps = total + float(value.detach()), steps + 1
                if not math.isfinite(total):
                    diverged = True
                    break
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(value)
                nn.utils.clip_grad_norm_(moving, options.clip_norm)
                optimizer.step()
        score = self.score()
        diverged = diverged or not math.isfinite(score.loss)
        self.seconds = before + time.monotonic() - began
        record = EpochRecord(
            epoch=epoch + 1,
            loss=total / max(steps, 1),
            score=None if diverged else score.value,
            score_loss=None if diverged else score.loss,
            learning_rate=float(optimizer.param_groups[0]["lr"]),
            seconds=self.seconds - before,
            diverged=diverged,
        )
        return record, score

    def _is_shaken(self, score: Score, start: Score, best_epoch: int) -> bool:
        """Whether the rate is too high: the network is worse than it came, and no epoch has made it better."""
        worse = self.lowers_rate and best_epoch == 0 and score.loss > start.loss
        return worse and self.divided_by * LESS < LEAST

    def _progress(self, done: float) -> float:
        """How much of the training is over: of its steps, or of its time where that is nearer to its end."""
        minutes = self.options.minutes
        return done if minutes is None else max(done, self.seconds / (60 * minutes))

    def _rate(self, progress: float) -> float:
        """A tenth of the way up, then down along half a cosine."""
        steps = self.options.epochs * len(self.batches)
        rise = min(1.0, (progress * steps + 1) / max(1, steps // 10))
        return self.options.learning_rate / self.divided_by * rise * 0.5 * (1 + math.cos(math.pi * progress))

    def _answer(self, index: int, batch: Any) -> list[Tensor]:
        """What the teacher says to a batch, asked once; kept on the CPU while there is room."""
        if index in self.taught:
            return [answer.to(device_of(self.model)) for answer in self.taught[index]]
        with torch.no_grad():
            answers = [answer.detach() for answer in tensors_of(self.outputs(self.teacher, batch))]
        size = sum(answer.numel() * answer.element_size() for answer in answers)
        if self.taught_bytes + size <= MOST_BYTES:
            self.taught[index] = [answer.cpu() for answer in answers]
            self.taught_bytes += size
        return answers

    def _save(
        self,
        start: Score,
        best: Score,
        best_epoch: int,
        weights: Weights,
        changing: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """What an interrupted run goes on from."""
        if self.store is None:
            return
        self.store.save(
            {
                "history": [vars(one) for one in self.history],
                "start": (start.value, start.loss),
                "best": (best.value, best.loss),
                "best_epoch": best_epoch,
                "best_weights": weights,
                "weights": capture(changing),
                "optimizer": optimizer.state_dict(),
                "seconds": self.seconds,
                "divided_by": self.divided_by,
            }
        )

    def _gone_on_with(
        self, saved: dict[str, Any], changing: Sequence[Tensor], optimizer: torch.optim.Optimizer
    ) -> tuple[Score, Score, int, Weights]:
        """Put an interrupted run back; its first score, its best one, the epoch and the weights of that."""
        self.history = [EpochRecord(**record) for record in saved["history"]]
        self.seconds, self.divided_by = saved["seconds"], saved.get("divided_by", 1.0)
        restore(changing, saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        start, best = (Score(value, torch.zeros(0), loss) for value, loss in (saved["start"], saved["best"]))
        return start, best, saved["best_epoch"], saved["best_weights"]
