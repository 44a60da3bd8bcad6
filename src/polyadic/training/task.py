"""What a network is for: how it is scored and trained. :class:`ScoreTask` scores by a function and trains nothing."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, final

from torch import nn

from polyadic.errors import PolyadicError
from polyadic.layers import Inputs, device_of, on_device
from polyadic.schema import ScoreWords
from polyadic.training.metric import Metric, as_metric, paired_interval
from polyadic.training.options import EpochRecord, FinetuneReport
from polyadic.training.outputs import outputs_lost
from polyadic.training.score_images import Proxy, ProxyScore

FEW_BATCHES = 4
"""Calibration batches on which outputs are compared, where a task has no samples that chose nothing."""


@dataclass(frozen=True)
class FinalScores:
    """Scores on images that chose nothing, one per network, and the drop from the first to the last.

    Attributes:
        values: in the order of the networks.
        drop_interval: 95 % interval in the unit of drops, where the score is a mean over samples.
    """

    values: tuple[float, ...]
    drop_interval: tuple[float, float] | None


class Task(ABC):
    """Scores are fractions or any other number of which more is better. A task that says no more trains nothing."""

    @property
    @abstractmethod
    def score_name(self) -> str:
        """What the score is."""

    @property
    def score_is_fraction(self) -> bool:
        """Whether the score is an accuracy or another fraction, which reports show in percent; else any number."""
        return False

    @property
    def score_unit(self) -> str:
        """Of a score that is no fraction, such as "dB"."""
        return ""

    @property
    def words(self) -> ScoreWords:
        """In which the score, and what is lost of it, is written."""
        return ScoreWords(self.score_name, self.score_is_fraction, self.score_unit, self.judged_on)

    @property
    def judged_on(self) -> str | None:
        """What :meth:`final_scores` reads that chose nothing; None where it reads what ranks were chosen by."""
        return "test data"

    @property
    def needs_gradients(self) -> bool:
        """Whether layers or networks may be trained, for which gradients have to be there from the start."""
        own = type(self)
        return own.tune_layer is not Task.tune_layer or own.tune_network is not Task.tune_network

    def example_input(self) -> Inputs | None:
        """What the network takes, as a batch of one sample, where the task knows one."""
        return None

    @abstractmethod
    def score(self, model: nn.Module) -> float:
        """The score on what ranks are chosen by: held-out training images, never test images."""

    @abstractmethod
    def proxy(self, dense: nn.Module) -> Proxy:
        """How untuned networks are compared with ``dense``: quickly, on part of what ranks are chosen by."""

    def doubt_of(self, score: float, *, test: bool = False) -> str | None:
        """Why the dense network's ``score`` on held-out (or test) samples is doubtful; None where nothing is."""
        return None

    def answers_lost(self, scores: Sequence[float], outputs_lost: float) -> float:
        """The share of its answers that a network has lost; NaN where it cannot be told.

        Args:
            scores: the final ones, of the dense network first and of the compressed one last.
            outputs_lost: 1 - R^2 of the compressed network's outputs; NaN where they cannot be compared.
        """
        return outputs_lost

    def outputs_lost(self, dense: nn.Module, model: nn.Module) -> tuple[float, str]:
        """What ``model`` has lost of the outputs of ``dense``: 1 - R^2, NaN where there are no samples; and on what.

        Samples that chose nothing are better than these, the first that calibrate.
        """
        device = device_of(dense)
        few = [on_device(batch, device) for batch in islice(self.calibration_batches(), FEW_BATCHES)]
        return outputs_lost(dense, model, few), "samples that calibrate"

    def tune_layer(self, model: nn.Module, parameters: Iterable[nn.Parameter], teacher: nn.Module) -> bool:
        """Fine-tune ``parameters`` alone, in place; whether anything was done."""
        return False

    def tune_network(
        self,
        model: nn.Module,
        teacher: nn.Module,
        on_epoch: Callable[[EpochRecord, int], None],
        checkpoint: Path | None,
    ) -> FinetuneReport | None:
        """Fine-tune everything, in place.

        Args:
            model: the compressed network, which is trained.
            teacher: the dense one.
            on_epoch: called after each epoch with its record and the number of epochs asked for.
            checkpoint: where an interrupted run keeps what it needs to go on.

        Returns:
            What was done. Where a task trains and returns None the network is scored again, and recorded as "trained,
            without a report"; where it changes nothing, as "not fine-tuned".
        """
        return None

    def calibration_batches(self) -> Iterable[Inputs]:
        """What the network takes, without labels: for the norms of layers and batch-norm statistics."""
        return ()

    def share(self, part: int, parts: int) -> Task:
        """The same task with the training of round ``part`` (from 1) of ``parts``; itself, unless it divides it."""
        return self

    @abstractmethod
    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        """Scores on the test images, read here and nowhere else."""

    @abstractmethod
    def provenance(self) -> dict[str, object]:
        """What the scores depend on, as plain data."""


def require_task(task: object) -> None:
    """Refuse what people hold in the place of a task.

    Raises:
        PolyadicError: it is none.
    """
    if not isinstance(task, Task):
        raise PolyadicError(
            f"a task says how networks are scored and trained; got {type(task).__name__}: for samples pass "
            "polyadic.SampleTask(dense_model, loader), for images with labels polyadic.training.ImageTask(data)"
        )


@final
@dataclass(frozen=True)
class ScoreTask(Task):
    """A score function of the user, such as ``lambda model: -perplexity(model)``. Nothing is trained.

    Attributes:
        function: from a model in evaluation mode to its score, higher is better, in a unit of its own in which drops
            are given, too; or a :class:`polyadic.Metric`.
        name: what it is; by default what the metric says, or the function's own name.

    Raises:
        PolyadicError: a metric that is fed with outputs and labels, which a task without samples does not have.
    """

    function: Callable[[nn.Module], Any] | Metric
    name: str = ""

    def __post_init__(self) -> None:
        if self.metric.is_fed:
            raise PolyadicError(
                f"{self.metric.name} is fed with outputs and labels: pass it as metric=, beside samples that hold them"
            )

    @cached_property
    def metric(self) -> Metric:
        """The function with its name, unit and direction."""
        metric = as_metric(self.function)
        return metric.named(self.name) if self.name else metric

    @property
    def score_name(self) -> str:
        """As the user called it."""
        return self.metric.score_name

    @property
    def score_is_fraction(self) -> bool:
        """As the user said."""
        return self.metric.is_fraction

    @property
    def score_unit(self) -> str:
        """As the user said."""
        return self.metric.unit

    @property
    def judged_on(self) -> None:
        """Nothing: there is one function, and ranks are chosen by it."""
        return

    def score(self, model: nn.Module) -> float:
        """The user's score.

        Raises:
            PolyadicError: the function returned something that is no finite number.
        """
        return float(self.metric(model).mean())

    def proxy(self, dense: nn.Module) -> Proxy:
        """The score itself."""
        reached = self.score(dense)

        def lost(model: nn.Module, best: float = math.inf, share: float = 1.0, /) -> ProxyScore:
            return ProxyScore(self.words.drop(reached, self.score(model)))

        return lost

    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        """The same function: there is no other."""
        values = [self.metric(model) for model in models]
        return FinalScores(tuple(float(value.mean()) for value in values), paired_interval(values[0], values[-1]))

    def provenance(self) -> dict[str, object]:
        """The function's name."""
        function = self.metric.function
        return {"score_function": getattr(function, "__qualname__", repr(function))}
