"""A network of any kind, judged and taught by samples: its outputs compared with those of the dense network.

Nothing needs a label. What is added to the samples is used as well: a metric of the user's own, which then is the
score, and a loss with labels, which then is part of what the fine-tuning follows.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from polyadic.errors import DataError, LayerError, PolyadicError
from polyadic.layers import device_of, evaluation_mode
from polyadic.schema import points
from polyadic.training.options import EpochRecord, FinetuneReport, FinetuneStop
from polyadic.training.outputs import answers, distance_of, distillation_loss
from polyadic.training.samples import MOST_BYTES, NO_BATCHES, Samples, batches_of, first_tensor, rows_of
from polyadic.training.score_images import Proxy, ProxyScore, Score
from polyadic.training.snapshot import Checkpoint, capture, restore, weights_digest
from polyadic.training.task import FinalScores, ScoreTask, Task, name_of


@dataclass(frozen=True)
class DistillOptions:
    """How a network is taught by the dense one, without labels unless there is a loss.

    Attributes:
        epochs: passes over the samples; 0 trains nothing.
        learning_rate: of Adam at its highest; it rises over the first tenth of all steps and falls along half a cosine.
        distillation: w in (1 - w) loss(outputs, batch) + w (distance from the dense network's outputs); without a loss
            it counts as 1.
        clip_norm: the largest 2-norm of the whole gradient.
        seed: of the order of the batches.

    Raises:
        PolyadicError: a value outside its range; the message names the field.
    """

    epochs: int = 10
    learning_rate: float = 3e-4
    distillation: float = 0.5
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, law in (
            ("epochs", self.epochs >= 0, "0 or more"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "finite and above 0"),
            ("distillation", 0 <= self.distillation <= 1, "from 0 to 1"),
            ("clip_norm", 0 < self.clip_norm < math.inf, "finite and above 0"),
        ):
            if not holds:
                raise PolyadicError(f"distillation option {name} is {law}; got {getattr(self, name)!r}")


@final
class SampleTask(Task):
    """What :func:`polyadic.compress` makes of a loader.

    The samples are read once, kept (at most 1 GiB of them) and divided: of ten, seven fit and teach the layers, two are
    held out to choose ranks and the best state, and one is for the last judgement alone. With ``validation`` all
    samples teach, and of three of its samples two choose and one judges.

    Without a metric the score is the R^2 of the outputs: the share of what varies in the dense network's outputs that
    is kept (:func:`distillation_loss`). A point is a hundredth of it. A metric takes its place; searches compare plans
    by their outputs all the same, which tells apart what a metric calls equal.

    Attributes:
        dense: the network that teaches.
        train: batches as they came, without what was held out.
        held_out: inputs that choose.
        last: inputs that judge at the end.
        tuning: of the whole network.
    """

    def __init__(
        self,
        dense: nn.Module,
        samples: Samples,
        *,
        validation: Samples | None = None,
        metric: Callable[[nn.Module], float] | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        input_of: Callable[[Any], Tensor] | None = None,
        tuning: DistillOptions | None = None,
    ) -> None:
        """Read the samples, and have the dense network answer the first of them.

        Args:
            dense: the network before compression; left as it is, and asked in evaluation mode.
            samples: batches: tensors (N, ...), or tuples and lists whose first tensor goes into the network, or dicts
                with one floating-point tensor. Labels may stand beside it; only ``loss`` reads them.
            validation: batches of the same kind that choose and judge.
            metric: from a network in evaluation mode to one number of which more is better, on samples of its own.
            loss: of the outputs and the batch as the loader gave it; labels are in there.
            input_of: what of a batch goes into the network, where the rule above does not say.
            tuning: how the network is taught; None takes the defaults.

        Raises:
            DataError: no batches, or none with an input, too few samples, samples of several sizes, NaN or Inf.
            LayerError: the outputs hold no floating-point tensor.
        """
        self.dense, self.metric, self.loss = dense, metric, loss
        self.tuning = tuning or DistillOptions()
        self._input_of = input_of or first_tensor
        batches, self.truncated = self._read(samples, "samples")
        train, chosen, last = self._divided(batches, validation)
        self.train = train
        self.held_out = self._inputs(chosen)
        self.last = self._inputs(last)
        self._score_task = None if metric is None else ScoreTask(metric, name_of(metric))
        answers(dense, self.held_out[:1])
        self._try_loss()

    @property
    def score_name(self) -> str:
        """The metric's name, or what R^2 is of."""
        return "R^2 of the dense outputs" if self._score_task is None else self._score_task.name

    @property
    def score_is_fraction(self) -> bool:
        """R^2 is; a metric may be any number."""
        return self.metric is None

    @property
    def judged_on(self) -> str | None:
        """The last samples; a metric knows no others than those that it chooses by."""
        return "last samples" if self.metric is None else None

    @property
    def needs_gradients(self) -> bool:
        """Unless nothing is taught."""
        return self.tuning.epochs > 0

    def example_input(self) -> Tensor:
        """The first of the samples."""
        return self._input_of(self.train[0])[:1]

    def score(self, model: nn.Module) -> float:
        """The metric, or R^2 on the samples that choose."""
        return self._judged(model, self.held_out)

    def proxy(self, dense: nn.Module) -> Proxy:
        """What is lost of the outputs on the samples that choose, and of the score."""
        reached = self.score(dense)
        targets = answers(dense, self.held_out)

        def lost(model: nn.Module, best: float = math.inf, share: float = 1.0, /) -> ProxyScore:
            count = max(1, math.ceil(share * len(self.held_out)))
            distance = distance_of(answers(model, self.held_out[:count]), targets[:count])
            if self._score_task is None:
                return ProxyScore(100.0 * distance, distance)
            return ProxyScore(points(reached, self.score(model)), distance)

        return lost

    def tune_network(
        self,
        model: nn.Module,
        teacher: nn.Module,
        on_epoch: Callable[[EpochRecord, int], None],
        checkpoint: Path | None,
    ) -> FinetuneReport | None:
        """Teach the network by the dense one's outputs (and the loss); the best state on the samples that choose stays.

        Batch norms keep their statistics, so that a few hundred samples suffice. An epoch after which outputs are not
        finite is undone and ends the training.
        """
        if not self.tuning.epochs:
            return None
        store = None if checkpoint is None else Checkpoint(checkpoint, self._run_key(model, teacher))
        return _Distillation(self, model, teacher, store).run(on_epoch)

    def calibration_batches(self) -> Iterator[Tensor]:
        """The inputs of the samples that teach."""
        return (self._input_of(batch) for batch in self.train)

    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        """The metric; or R^2 on the samples that chose nothing."""
        return FinalScores(tuple(self._judged(model, self.last) for model in models), None)

    def provenance(self) -> dict[str, object]:
        """How many samples, what they are (a digest), and what else was given."""
        counts = (sum(map(len, self.calibration_batches())), sum(map(len, self.held_out)), sum(map(len, self.last)))
        return {
            "samples": dict(zip(("train", "held_out", "last"), counts, strict=True)),
            "samples_digest": self._inputs_digest,
            "samples_beyond_memory": self.truncated,
            "compared": "R^2 of the outputs" if self.metric is None else f"metric {self.score_name}, outputs by R^2",
            "labelled_loss": None if self.loss is None else getattr(self.loss, "__qualname__", repr(self.loss)),
            "network_tuning": repr(self.tuning),
        }

    @cached_property
    def _inputs_digest(self) -> str:
        """SHA-256 of all inputs."""
        digest = hashlib.sha256()
        for part in (*self.calibration_batches(), *self.held_out, *self.last):
            digest.update(part.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def objective(self, model: nn.Module, teacher: nn.Module, batch: Any) -> Tensor:
        """What a step of the fine-tuning makes smaller.

        Raises:
            LayerError: it does not depend on the network.
        """
        x = self._input_of(batch).to(device_of(model))
        with torch.no_grad():
            targets = teacher(x)
        outputs = model(x)
        value = distillation_loss(outputs, targets)
        if self.loss is not None:
            labelled = _checked_loss(self.loss(outputs, batch))
            value = torch.lerp(labelled.float(), value, self.tuning.distillation)
        if not value.requires_grad:
            raise LayerError("fine-tuning needs outputs that depend on the parameters, and these do not")
        return value

    def _judged(self, model: nn.Module, inputs: list[Tensor]) -> float:
        if self._score_task is not None:
            with evaluation_mode(model):
                return self._score_task.score(model)
        return 1.0 - distance_of(answers(model, inputs), answers(self.dense, inputs))

    def _try_loss(self) -> None:
        """Refuse a loss that teaches nothing before anything long begins."""
        x = self._input_of(self.train[0])
        if self.loss is None or not x.is_floating_point() or not self.tuning.epochs:
            return
        with evaluation_mode(self.dense), torch.enable_grad():  # a frozen network's outputs depend on its input alone
            outputs = self.dense(x.detach().to(device_of(self.dense)).requires_grad_())
            _checked_loss(self.loss(outputs, self.train[0]))

    def _inputs(self, batches: list[Any]) -> list[Tensor]:
        return [self._input_of(batch) for batch in batches]

    def _read(self, samples: Samples, name: str) -> tuple[list[Any], bool]:
        """All batches, checked; and whether there are more than are kept."""
        dtype = next((p.dtype for p in self.dense.parameters() if p.is_floating_point()), torch.float32)
        batches, kept, shape = [], 0, None
        for number, batch in enumerate(batches_of(samples, name)):
            x = self._input_of(batch)
            if not isinstance(x, Tensor) or x.dim() < 2 or not len(x):
                came = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
                raise DataError(
                    f"what goes into the network is one tensor (N, ...); batch {number} of {name} has {came}"
                )
            if shape is not None and x.shape[1:] != shape:
                raise DataError(
                    f"samples are of one size; batch {number} of {name} has {tuple(x.shape[1:])} after {tuple(shape)}: "
                    "crop or resize them"
                )
            if x.is_floating_point():
                if x.dtype != dtype:
                    raise DataError(
                        f"samples come in the network's number format; the weights are {dtype} and batch {number} of "
                        f"{name} is {x.dtype}: convert one of them"
                    )
                if not bool(x.isfinite().all()):
                    raise DataError(f"samples are finite; batch {number} of {name} holds NaN or Inf: clean the data")
            shape = x.shape[1:]
            batches.append(batch)
            kept += x.numel() * x.element_size()
            if kept >= MOST_BYTES:
                return batches, True
        if not batches:
            raise DataError(f"{name} {NO_BATCHES}")
        return batches, False

    def _divided(self, batches: list[Any], validation: Samples | None) -> tuple[list[Any], list[Any], list[Any]]:
        """Batches that teach, choose and judge."""
        if validation is not None:
            others, _ = self._read(validation, "validation")
            if sum(len(self._input_of(batch)) for batch in others) < 2:
                raise DataError("validation holds 2 samples or more, one to choose by and one to judge by; got 1")
            _, chosen, last = self._parts(others, lambda number: 2 if number % 3 == 1 else 1)
            return batches, chosen, last
        count = sum(len(self._input_of(batch)) for batch in batches)
        if count < 3:
            raise DataError(f"samples teach, choose and judge, so there are 3 or more; got {count}: give more")
        if count < 10:
            return self._parts(batches, lambda number: number % 3)
        return self._parts(batches, lambda number: {3: 1, 8: 1, 5: 2}.get(number % 10, 0))

    def _parts(self, batches: list[Any], part_of: Callable[[int], int]) -> tuple[list[Any], list[Any], list[Any]]:
        parts: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        before = 0
        for batch in batches:
            count = len(self._input_of(batch))
            numbers = [part_of(before + row) for row in range(count)]
            for part, held in enumerate(parts):
                rows = torch.tensor([row for row, number in enumerate(numbers) if number == part], dtype=torch.long)
                if len(rows):
                    held.append(rows_of(batch, rows, count))
            before += count
        return parts

    def _run_key(self, model: nn.Module, teacher: nn.Module) -> str:
        parts = (self.provenance(), weights_digest(model), weights_digest(teacher))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _checked_loss(value: object) -> Tensor:
    """What a loss of the user's gave.

    Raises:
        LayerError: it is not one number that depends on the outputs.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad:
        return value.reshape(())
    came = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    if isinstance(value, Tensor) and value.numel() == 1:
        came = "a number that does not"
    raise LayerError(
        f"loss(outputs, batch) gives one number that depends on the network's outputs, as a tensor; got {came}: "
        "compute it from its first argument, without detach() or item(), and take the mean"
    )


@dataclass
class _Distillation:
    """A run of the fine-tuning: what changes, and what is kept of it after each epoch."""

    task: SampleTask
    model: nn.Module
    teacher: nn.Module
    store: Checkpoint | None
    history: list[EpochRecord] = field(default_factory=list)

    def run(self, on_epoch: Callable[[EpochRecord, int], None]) -> FinetuneReport:
        """All epochs; the model holds the best state at the end, and also when something goes wrong."""
        model, options, began = self.model, self.task.tuning, time.monotonic()
        moving = [p for p in model.parameters() if p.requires_grad] or list(model.parameters())
        moving = [p for p in moving if p.is_floating_point()]
        frozen = [p for p in model.parameters() if not p.requires_grad]
        optimizer = torch.optim.Adam(moving, lr=options.learning_rate)
        changing: list[Tensor] = [*moving, *model.buffers()]
        targets = answers(self.teacher, self.task.held_out)
        start = self._score(targets)
        best, best_epoch, weights, stop, seconds = start, 0, capture(changing), FinetuneStop.COMPLETED, 0.0
        saved = None if self.store is None else self.store.load()
        if saved is not None:
            self.history = [EpochRecord(**record) for record in saved["history"]]
            start, best = (Score(value, torch.zeros(0), loss) for value, loss in (saved["start"], saved["best"]))
            best_epoch, weights, seconds = saved["best_epoch"], saved["best_weights"], saved["seconds"]
            restore(changing, saved["weights"])
            optimizer.load_state_dict(saved["optimizer"])
        try:
            for parameter in moving:
                parameter.requires_grad_(True)
            for epoch in range(len(self.history), options.epochs):
                record, score = self._epoch(epoch, optimizer, moving, targets)
                self.history.append(record)
                if record.diverged:
                    stop = FinetuneStop.DIVERGED
                elif score.loss < best.loss:
                    best, best_epoch, weights = score, epoch + 1, capture(changing)
                if self.store is not None:
                    self.store.save(
                        {
                            "history": [vars(one) for one in self.history],
                            "start": (start.value, start.loss),
                            "best": (best.value, best.loss),
                            "best_epoch": best_epoch,
                            "best_weights": weights,
                            "weights": capture(changing),
                            "optimizer": optimizer.state_dict(),
                            "seconds": seconds + time.monotonic() - began,
                        }
                    )
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
        return FinetuneReport(start, best, best_epoch, tuple(self.history), stop, seconds + time.monotonic() - began)

    def _epoch(
        self, epoch: int, optimizer: torch.optim.Optimizer, moving: list[nn.Parameter], targets: list[list[Tensor]]
    ) -> tuple[EpochRecord, Score]:
        """One pass over the batches in an order of its own."""
        task, options, began, total = self.task, self.task.tuning, time.monotonic(), 0.0
        order = list(range(len(task.train)))
        random.Random(f"{options.seed} {epoch}").shuffle(order)
        steps, diverged = options.epochs * len(order), False
        with evaluation_mode(self.model), evaluation_mode(self.teacher):
            for number, index in enumerate(order):
                done = epoch * len(order) + number
                rise = min(1.0, (done + 1) / max(1, steps // 10))
                rate = options.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done / steps))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                value = task.objective(self.model, self.teacher, task.train[index])
                total += float(value.detach())
                if not math.isfinite(total):
                    diverged = True
                    break
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(value)
                nn.utils.clip_grad_norm_(moving, options.clip_norm)
                optimizer.step()
        score = self._score(targets)
        diverged = diverged or not math.isfinite(score.loss)
        record = EpochRecord(
            epoch=epoch + 1,
            loss=total / len(order),
            score=None if diverged else score.value,
            score_loss=None if diverged else score.loss,
            learning_rate=float(optimizer.param_groups[0]["lr"]),
            seconds=time.monotonic() - began,
            diverged=diverged,
        )
        return record, score

    def _score(self, targets: list[list[Tensor]]) -> Score:
        """The metric, or R^2 without one; what its ``loss`` is lowest for is the best state."""
        distance = distance_of(answers(self.model, self.task.held_out), targets)
        if self.task.metric is None:
            return Score(1.0 - distance, torch.zeros(0), distance)
        value = self.task.score(self.model) if math.isfinite(distance) else -math.inf
        return Score(value, torch.zeros(0), -value)
