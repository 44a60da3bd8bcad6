"""A network of any kind, judged and taught by samples: its outputs compared with those of the dense network.

Nothing needs a label. What is added to the samples is used as well: a metric of the user's own, which then is the
score, and a loss with labels, which then is part of what the fine-tuning follows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.layers import (
    Inputs,
    call_model,
    device_of,
    evaluation_mode,
    first_samples,
    on_device,
    sample_count,
    tensors_in,
)
from polyadic.training.distillation import Distillation, DistillOptions
from polyadic.training.fed_metric import fed_score
from polyadic.training.metric import Metric, as_metric
from polyadic.training.options import EpochRecord, FinetuneReport
from polyadic.training.outputs import (
    Compare,
    answers,
    change_lost,
    check_compare,
    check_logits,
    distance_of,
    distillation_loss,
)
from polyadic.training.sample_checks import check_function, checked_loss, try_loss
from polyadic.training.sample_division import divided, divided_in_two, enough_batches, read_batches
from polyadic.training.samples import Forward, Samples, inputs_of, labels_of, together
from polyadic.training.score_images import Proxy, ProxyScore, Score
from polyadic.training.snapshot import Checkpoint, weights_digest
from polyadic.training.task import FinalScores, ScoreTask, Task


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
        held_out: batches that choose.
        last: batches that judge at the end.
        tuning: of the whole network.
    """

    def __init__(
        self,
        dense: nn.Module,
        samples: Samples,
        *,
        validation: Samples | None = None,
        metric: Callable[[nn.Module], Any] | Metric | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        forward: Forward | None = None,
        compare: Compare = "squares",
        tuning: DistillOptions | None = None,
    ) -> None:
        """Read the samples, and have the dense network answer the first of them.

        Args:
            dense: the network before compression; left as it is, and asked in evaluation mode.
            samples: batches: tensors (N, ...), or tuples, lists and dicts of which the network's forward takes what it
                asks for (:func:`polyadic.training.inputs_of`). Labels may stand beside it; only ``loss`` reads them.
            validation: batches of the same kind that choose and judge.
            metric: from a network in evaluation mode to one number of which more is better, on samples of its own; or a
                :class:`polyadic.Metric`, or a ``torchmetrics.Metric``, which is fed with these samples.
            loss: of the outputs and the batch as the loader gave it; labels are in there.
            forward: ``forward(model, batch)`` gives the outputs, where that rule does not say what goes in, or where
                not all that the network returns is to count.
            compare: outputs by their "squares", or logits (N, classes, ...) by the "divergence" of their probabilities.
            tuning: how the network is taught; None takes the defaults.

        Raises:
            DataError: no batches, or none with an input, too few samples, samples of several sizes, NaN or Inf.
            LayerError: the outputs hold no floating-point tensor.
        """
        self.dense, self.loss = dense, loss
        self.metric = None if metric is None else as_metric(metric)
        self.tuning = tuning or DistillOptions()
        self.compare: Compare = check_compare(compare)
        for given, what in ((loss, "loss(outputs, batch)"), (forward, "forward(model, batch)")):
            check_function(given, what)
        self._forward = forward
        batches, self.truncated = read_batches(dense, samples, "samples", self.inputs_of)
        if validation is None:
            self.train, self.held_out, self.last = divided(batches, self._count)
        else:
            others, _ = read_batches(dense, validation, "validation samples", self.inputs_of)
            self.train = batches
            self.held_out, self.last = divided_in_two(others, self._count)
        for output in self._answers(dense, self.held_out[:1])[0]:
            if compare == "divergence":
                check_logits(output)
        if loss is not None and self.tuning.epochs:
            try_loss(dense, loss, self.outputs, self.train[0])
        if self.metric is not None and self.metric.is_fed:
            self._judged(dense, self.held_out[:1])  # labels are there

    @property
    def score_name(self) -> str:
        """The metric's name, or what is kept of the dense network's outputs."""
        if self.metric is not None:
            return self.metric.score_name
        return "R^2 of the dense outputs" if self.compare == "squares" else "information kept of the dense outputs"

    @property
    def score_is_fraction(self) -> bool:
        """What is kept is; a metric may be any number."""
        return self.metric is None or self.metric.is_fraction

    @property
    def score_unit(self) -> str:
        """Of the metric."""
        return "" if self.metric is None else self.metric.unit

    @property
    def judged_on(self) -> str | None:
        """The last samples; a metric with samples of its own knows no others than those that it chooses by."""
        return "last samples" if self.metric is None or self.metric.is_fed else None

    @property
    def last_count(self) -> int:
        """How many samples judge at the end."""
        return sum(map(self._count, self.last))

    @property
    def needs_gradients(self) -> bool:
        """Unless nothing is taught."""
        return self.tuning.epochs > 0

    def example_input(self) -> Inputs:
        """What goes in of the first of the samples."""
        return first_samples(self.inputs_of(self.train[0]), 1)

    def inputs_of(self, batch: Any) -> Inputs:
        """What of a batch goes into the network."""
        return inputs_of(self.dense, batch, self._forward)

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        """What a network answers to a batch on its device."""
        return call_model(model, self.inputs_of(batch)) if self._forward is None else self._forward(model, batch)

    def score(self, model: nn.Module) -> float:
        """The metric, or what is kept of the outputs, on the samples that choose."""
        return self._judged(model, self.held_out)

    def proxy(self, dense: nn.Module) -> Proxy:
        """What is lost of the outputs on the samples that choose, or enough of them, and of the score."""
        reached = self.score(dense)
        targets = self._answers(dense, self.held_out)
        enough = enough_batches(targets)

        def lost(model: nn.Module, best: float = math.inf, share: float = 1.0, /) -> ProxyScore:
            count = max(1, math.ceil(share * enough))
            distance = self._distance(model, self.held_out[:count], targets[:count])
            if self.metric is None:
                return ProxyScore(100.0 * distance, distance)
            return ProxyScore(self.words.drop(reached, self.score(model)), distance)

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
        targets = self._answers(teacher, self.held_out)

        def score() -> Score:
            """The metric, or R^2 without one."""
            distance = self._distance(model, self.held_out, targets)
            if self.metric is None:
                return Score(1.0 - distance, torch.zeros(0), distance)
            value = self.score(model) if math.isfinite(distance) else -math.inf
            return Score(value, torch.zeros(0), -value)

        run = Distillation(
            model,
            teacher,
            self.train,
            self.tuning,
            self.outputs,
            self.objective,
            score=score,
            lowers_rate=self.metric is None,
            store=store,
        )
        return run.run(on_epoch)

    def calibration_batches(self) -> Iterator[Inputs]:
        """The inputs of the samples that teach, put together into larger batches."""
        return together(map(self.inputs_of, self.train))

    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        """The metric; or what is kept of the outputs, on the samples that chose nothing."""
        if self.metric is not None and not self.metric.is_fed:
            return ScoreTask(self.metric).final_scores(models)
        return FinalScores(tuple(self._judged(model, self.last) for model in models), None)

    def outputs_lost(self, dense: nn.Module, model: nn.Module) -> tuple[float, str]:
        """What is lost of the outputs on the samples that chose nothing, through the user's own pass."""
        own, taught = self._answers(model, self.last), self._answers(dense, self.last)
        changed = change_lost(own, taught, [self.inputs_of(batch) for batch in self.last])
        return max(distance_of(own, taught, self.compare), changed), "last samples"

    def provenance(self) -> dict[str, object]:
        """How many samples, what they are (a digest), and what else was given."""
        counts = [sum(map(self._count, part)) for part in (self.train, self.held_out, self.last)]
        return {
            "samples": dict(zip(("train", "held_out", "last"), counts, strict=True)),
            "samples_digest": self._inputs_digest,
            "samples_beyond_memory": self.truncated,
            "compared": f"outputs by {self.compare}" + ("" if self.metric is None else f"; metric {self.score_name}"),
            "labelled_loss": None if self.loss is None else getattr(self.loss, "__qualname__", repr(self.loss)),
            "network_tuning": repr(self.tuning),
        }

    @cached_property
    def _inputs_digest(self) -> str:
        """SHA-256 of all inputs."""
        digest = hashlib.sha256()
        for tensor in tensors_in([self.inputs_of(batch) for batch in (*self.train, *self.held_out, *self.last)]):
            digest.update(tensor.detach().cpu().double().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def objective(self, outputs: Any, targets: Any, batch: Any) -> Tensor:
        """What a step of the fine-tuning makes smaller.

        Raises:
            LayerError: it does not depend on the network.
        """
        value = distillation_loss(outputs, targets, self.compare)
        if self.loss is not None:
            labelled = checked_loss(self.loss(outputs, batch))
            value = torch.lerp(labelled.float(), value, self.tuning.distillation)
        if not value.requires_grad:
            raise LayerError("fine-tuning needs outputs that depend on the parameters, and these do not")
        return value

    def _answers(self, model: nn.Module, batches: list[Any]) -> list[list[Tensor]]:
        return answers(model, batches, self.outputs)

    def _distance(self, model: nn.Module, batches: list[Any], targets: list[list[Tensor]]) -> float:
        """How far the network's outputs are from those of the dense one."""
        return distance_of(self._answers(model, batches), targets, self.compare)

    def _count(self, batch: Any) -> int:
        return sample_count(self.inputs_of(batch))

    def _judged(self, model: nn.Module, batches: list[Any]) -> float:
        if self.metric is not None:
            with evaluation_mode(model):
                return float(self._values(self.metric, model, batches).mean())
        return 1.0 - self._distance(model, batches, self._answers(self.dense, batches))

    def _values(self, metric: Metric, model: nn.Module, batches: list[Any]) -> Tensor:
        if not metric.is_fed:
            return metric(model)
        device = device_of(model)
        placed = (on_device(batch, device) for batch in batches)
        return fed_score(metric, model, placed, self.outputs, lambda batch: labels_of(self.dense, batch))

    def _run_key(self, model: nn.Module, teacher: nn.Module) -> str:
        parts = (self.provenance(), weights_digest(model), weights_digest(teacher))
        return hashlib.sha256(repr(parts).encode()).hexdigest()
