"""Classification of labelled images: how a network is scored, fine-tuned and calibrated on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.training.augment import Augmentation
from polyadic.training.execution import Execution
from polyadic.training.options import EpochRecord, FinetuneOptions, FinetuneReport
from polyadic.training.score_images import NORMAL_97_5, ImageProxy, Proxy, drop_interval, score_images
from polyadic.training.task import FinalScores, Task
from polyadic.training.train_on_images import train_on_images

if TYPE_CHECKING:
    from accelerate import Accelerator

LAYER_TUNING = FinetuneOptions(
    epochs=1, steps_per_epoch=40, learning_rate=1e-2, schedule="cosine", warmup=0.1, distillation=1.0, retries=1
)
"""One short epoch for a single layer: enough for its factors to settle, cheap enough for a hundred trials."""

HANDICAP = 0.01
"""Of a network that knows the held-out images by heart, against what was trained on others since: a point of score."""

NETWORK_TUNING = FinetuneOptions(epochs=12, learning_rate=4e-3, schedule="cosine", warmup=0.1, distillation=0.9)
"""The whole network, mostly taught by the dense one (Hinton et al. 2015); higher rates first destroy a good start."""

SEEN_IMAGES = 2000  # of each kind: tells differences of a point where both are above 97 %
FEWEST_SEEN = 1000  # of each kind: among fewer a gap of a point or two would pass for chance


@final
@dataclass(frozen=True)
class ImageTask(Task):
    """Classification of labelled images.

    Attributes:
        data: training, held-out and test images.
        layer: fine-tuning of a single layer; None leaves layers as the decomposition made them.
        network: fine-tuning of the whole network; None leaves it.
        training: where and how passes of the search and of the training run.
        testing: where and how the final scores are taken.
        batch_size: images per batch when scoring.
        calibration_images: how many training images batch-norm statistics are taken from.
        proxy_images: how many of the held-out images untuned networks are compared on.
        accelerator: of the processes that fine-tune the whole network together; None where there is one.
    """

    score_name: ClassVar[str] = "top-1 accuracy"
    score_is_fraction: ClassVar[bool] = True
    judged_on: ClassVar[str] = "test images"

    data: ImageData
    layer: FinetuneOptions | None = LAYER_TUNING
    network: FinetuneOptions | None = NETWORK_TUNING
    training: Execution = field(default_factory=Execution.for_training)
    testing: Execution = field(default_factory=Execution.for_evaluation)
    batch_size: int = 250
    calibration_images: int = 5000
    proxy_images: int = 1000
    accelerator: Accelerator | None = None

    @property
    def needs_gradients(self) -> bool:
        """Unless both options are None."""
        return self.layer is not None or self.network is not None

    def example_input(self) -> Tensor:
        """The first training image, normalised."""
        return self.data.example(1)

    def score(self, model: nn.Module) -> float:
        """Accuracy on the held-out training images."""
        score = score_images(
            model, self.data.held_out, self.data.normalise, execution=self.training, batch_size=self.batch_size
        )
        return score.value

    def doubt_of(self, score: float, *, test: bool = False) -> str | None:
        """A network that does no better than chance has not been trained, or not on these classes."""
        images = self.data.test if test else self.data.held_out
        return doubt_of_accuracy(score, images.labels, self.data.classes)

    def answers_lost(self, scores: Sequence[float], outputs_lost: float) -> float:
        """Of the images that the dense network classifies correctly; logits may move, labels teach them to."""
        return 1.0 - scores[-1] / scores[0] if scores[0] > 0 else math.nan

    def proxy(self, dense: nn.Module) -> Proxy:
        """Divergence from the dense network on the first held-out images."""
        images = self.data.held_out.take(torch.arange(min(self.proxy_images, len(self.data.held_out))))
        return ImageProxy(dense, images, self.data.normalise, self.training, self.batch_size)

    def tune_layer(self, model: nn.Module, parameters: Iterable[nn.Parameter], teacher: nn.Module) -> bool:
        """A few steps of distillation that move one layer."""
        if self.layer is None:
            return False
        options = replace(self.layer, score_precision=self.training.precision)
        train_on_images(model, self.data, options, parameters=parameters, teacher=teacher, execution=self.training)
        return True

    def tune_network(
        self,
        model: nn.Module,
        teacher: nn.Module,
        on_epoch: Callable[[EpochRecord, int], None],
        checkpoint: Path | None,
    ) -> FinetuneReport | None:
        """All epochs of the fine-tuning of the whole network; None where ``network`` is None, and nothing is trained.

        Where ``teacher`` has been trained on the held-out images, these favour the network that was not trained since:
        it is handicapped (:func:`has_seen`).
        """
        options = self.network
        if options is None:
            return None
        if has_seen(teacher, self.data, self.training, self.batch_size):
            options = replace(options, handicap=HANDICAP)
        return train_on_images(
            model,
            self.data,
            options,
            teacher=teacher,
            execution=self.training,
            on_progress=lambda record: on_epoch(record, options.epochs),
            checkpoint=checkpoint,
            accelerator=self.accelerator,
        )

    def share(self, part: int, parts: int) -> ImageTask:
        """The epochs of the whole network divided among the rounds; each gets one at least."""
        if self.network is None:
            return self
        epochs = self.network.epochs
        own = max(1, epochs * part // parts - epochs * (part - 1) // parts)
        return replace(self, network=replace(self.network, epochs=own))

    def calibration_batches(self) -> Iterator[Tensor]:
        """Training images as they are, normalised."""
        count = min(self.calibration_images, len(self.data.train))
        for start in range(0, count, self.batch_size):
            index = torch.arange(start, min(start + self.batch_size, count))
            if start and len(index) == 1:
                return  # batch norm has no variance of a single 1 x 1 feature
            yield self.data.normalise(self.data.train.images(index))

    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        """Accuracy on the test images."""
        scores = [
            score_images(model, self.data.test, self.data.normalise, execution=self.testing, batch_size=self.batch_size)
            for model in models
        ]
        return FinalScores(tuple(score.value for score in scores), drop_interval(scores[0], scores[-1]))

    def provenance(self) -> dict[str, object]:
        """Data set, hashes, sizes, constants and training options."""
        return {
            "data": self.data.name,
            "data_digests": self.data.digests,
            "images": {part: len(getattr(self.data, part)) for part in ("train", "held_out", "test")},
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "layer_tuning": repr(self.layer),
            "network_tuning": repr(self.network),
            "training_execution": repr(self.training),
            "testing_execution": repr(self.testing),
        }


def augmentation_for(data: ImageData) -> Augmentation:
    """Mirror and shift colour images.

    Leave grey ones, such as digits and letters, whose mirror image means something else.
    """
    return Augmentation() if data.image_shape[0] == 3 else Augmentation.none()


def doubt_of_accuracy(accuracy: float, labels: Tensor, classes: int) -> str | None:
    """A warning where ``accuracy`` is not above chance: guessing, or always answering the most frequent class.

    Args:
        accuracy: a fraction of the images.
        labels: of these images, int64 (N,).
        classes: how many there are to choose from.

    Returns:
        None where it is above the 97.5 % quantile of guessing and above the share of the most frequent class, and where
        all images are of one class, which tells nothing.
    """
    count = len(labels)
    most = int(torch.bincount(labels).max()) / count
    if most == 1.0:
        return None
    guessing = 1.0 / classes
    chance = max(most, guessing + NORMAL_97_5 * math.sqrt(guessing * (1.0 - guessing) / count))
    if accuracy > chance + 0.5 / count:  # what rounding leaves is no image
        return None
    return (
        f"the network scores {100 * accuracy:.2f} % on {count:,} images of {classes} classes, which is no better than "
        "chance: its weights are untrained or of another network, its classes are in another order, or mean and "
        "deviation are not those that it was trained with; nothing that is said of it now means anything"
    )


def has_seen(model: nn.Module, data: ImageData, execution: Execution, batch_size: int = 250) -> bool:
    """Whether ``model`` scores on held-out images as it does on training images, within what chance explains.

    Published weights were trained on all training images, and those that are held out afterwards are no news to them. A
    network that is close to the dense one still knows them by heart; fine-tuning on the other images makes it forget
    some of that, which costs held-out score and nothing else.

    A network that has not seen the held-out images is better on those that it was trained on. Where there is no such
    gap the held-out images tell nothing that training images do not. Where there are fewer than :data:`FEWEST_SEEN` of
    either, nothing can be told, and the answer is no.

    Args:
        model: as it was published, (n, C, H, W) -> logits (n, classes).
        data: training and held-out images; the first of each are looked at.
        execution: where and how.
        batch_size: images per forward pass.

    Raises:
        DataError: the logits do not fit the labels.
    """
    if min(len(data.train), len(data.held_out)) < FEWEST_SEEN:
        return False
    rates, variance = [], 0.0
    for images in (data.train, data.held_out):
        some = images.take(torch.arange(min(SEEN_IMAGES, len(images))))
        rate = score_images(model, some, data.normalise, execution=execution, batch_size=batch_size).value
        variance += rate * (1.0 - rate) / len(some)
        rates.append(rate)
    return rates[0] - rates[1] <= NORMAL_97_5 * math.sqrt(variance)
