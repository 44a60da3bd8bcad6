"""What a fine-tuning run is asked to do, and what it reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, get_args

from polyadic.errors import PolyadicError
from polyadic.training.augment import Augmentation
from polyadic.training.execution import Precision
from polyadic.training.score_images import Score

Schedule = Literal["saturation", "cosine"]


@dataclass(frozen=True)
class FinetuneOptions:
    """Stochastic gradient descent with momentum, as in Phan et al. (ECCV 2020), section 4, unless told otherwise.

    That section gives the learning rate 1e-3, its factor 0.1 at saturation and the weight decay 1e-4; batch size and
    momentum are those of He et al. (CVPR 2016), section 4.2; the other defaults are this library's.

    Attributes:
        epochs: the most epochs; an epoch ends with a held-out score.
        steps_per_epoch: batches per epoch; None = one pass over the training images without the last partial batch.
        batch_size: images per step.
        learning_rate: at the start ("saturation") or at the top ("cosine").
        momentum: of SGD.
        weight_decay: the L2 penalty of SGD.
        schedule: "saturation" multiplies the rate by ``decay`` after ``patience`` epochs without a new best score and
            stops when that has happened ``reductions`` times and the score is level again; "cosine" rises linearly
            over the first ``warmup`` of all steps and then falls to zero along half a cosine.
        decay: the factor at saturation and after a divergence.
        patience: epochs without a new best score that count as saturation.
        reductions: how often saturation may lower the rate.
        warmup: fraction of all steps, cosine only.
        clip_norm: the largest 2-norm of the whole gradient; None = no clipping.
        distillation: w in (1 - w) CE(labels) + w T^2 KL(teacher || student); 0 = labels only, 1 = teacher only.
        temperature: T (Hinton et al. 2015).
        freeze_statistics: leave the running statistics of batch norms as they are and normalise by them in training
            too. With ``parameters`` given to :func:`train_on_images` it is so in any case.
        mixing: mix every training image with another one before it is augmented (:mod:`polyadic.training.mix_images`).
        augmentation: random changes of the training images.
        handicap: what the held-out score of the network as it came is lowered by when trained states are compared with
            it, a fraction of the images; 0 where the network was not trained on them.
        retries: how often a divergence is answered with the best state and a lower rate before giving up.
        score_precision: of the held-out score that selects the best state.
        seed: of the order of the images, their augmentation and dropout.

    Raises:
        PolyadicError: a value outside its range; the message names the field.
    """

    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Schedule = "saturation"
    decay: float = 0.1
    patience: int = 2
    reductions: int = 2
    warmup: float = 0.05
    clip_norm: float | None = 5.0
    distillation: float = 0.0
    temperature: float = 4.0
    freeze_statistics: bool = False
    mixing: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    handicap: float = 0.0
    retries: int = 1
    score_precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = ("epochs", "steps_per_epoch", "batch_size", "patience")
        for name in at_least_one:
            self._require(name, lambda value: value is None or value >= 1, "at least 1")
        for name in ("reductions", "retries", "seed", "momentum", "weight_decay"):
            self._require(name, lambda value: 0 <= value < math.inf, "0 or more")
        for name in ("learning_rate", "temperature", "clip_norm"):
            self._require(name, lambda value: value is None or 0 < value < math.inf, "finite and above 0")
        for name in ("distillation", "warmup", "handicap"):
            self._require(name, lambda value: 0 <= value <= 1, "from 0 to 1")
        self._require("decay", lambda value: 0 < value < 1, "between 0 and 1")
        self._require("schedule", lambda value: value in get_args(Schedule), "saturation or cosine")
        self._require("score_precision", lambda value: value in get_args(Precision), "float32 or bfloat16")

    def _require(self, name: str, holds: Callable[[Any], bool], law: str) -> None:
        value = getattr(self, name)
        if not holds(value):
            raise PolyadicError(f"fine-tuning option {name} is {law}; got {value!r}")

    def rate_shape(self, step: int, steps: int) -> float:
        """Return the factor on the learning rate at ``step`` (from 0) of ``steps`` in all; 1 unless cosine."""
        if self.schedule != "cosine":
            return 1.0
        rise = math.ceil(self.warmup * steps)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


class FinetuneStop(Enum):
    """Why a fine-tuning run ended, as advice."""

    COMPLETED = "every epoch ran: if the last ones still improved the held-out score, ask for more epochs"
    SATURATED = (
        "the held-out score stayed level at the lowest learning rate: more epochs will not help; raise the rank instead"
    )
    DIVERGED = (
        "the loss exploded or was not a number, again after the learning rate was lowered; the best state is back: "
        "start from a lower learning_rate or clip_norm"
    )


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a fine-tuning run.

    Attributes:
        epoch: from 1; a diverged epoch is run again under the same number.
        loss: the mean training objective of its steps, NaN when it was not finite.
        score: fraction of held-out images right after it; None when it diverged before it could be scored.
        score_loss: held-out cross-entropy, None likewise.
        learning_rate: at its last step.
        seconds: wall time, the held-out score included.
        diverged: the loss exploded, and the best state was put back.
    """

    epoch: int
    loss: float
    score: float | None
    score_loss: float | None
    learning_rate: float
    seconds: float
    diverged: bool


@dataclass(frozen=True, eq=False)
class FinetuneReport:
    """What a fine-tuning run did.

    Attributes:
        start: held-out score of the model as it came.
        best: held-out score of the model as it was left; never worse than ``start`` less the handicap.
        best_epoch: the epoch after which the model was best; 0 = as it came.
        history: one record per epoch, diverged ones included.
        stop: why the run ended.
        seconds: wall time, of interrupted runs too; everything included.
    """

    start: Score
    best: Score
    best_epoch: int
    history: tuple[EpochRecord, ...]
    stop: FinetuneStop
    seconds: float
