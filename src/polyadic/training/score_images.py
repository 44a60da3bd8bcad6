"""How many images a network classifies correctly, how surely another one is worse, and a quick answer beforehand.

Accuracy on a thousand images moves in steps of a tenth of a point, and a network that is compressed a little moves less
than that. The mean Kullback-Leibler divergence of its answers from the dense network's has no steps and needs no label:
it is the proxy by which untuned networks are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyadic.data.images import ImageSet
from polyadic.errors import DataError
from polyadic.layers import evaluation_mode
from polyadic.training.execution import Execution, place_model

NORMAL_97_5 = 1.959964
"""The 97.5 % quantile of the standard normal distribution."""

REJECTED_AFTER = 0.25  # of the images: where a network is hopeless by then, the rest is not looked at
HOPELESS = 4.0  # times the loss of the best network so far


@dataclass(frozen=True, eq=False)
class Score:
    """What a network got right on N images.

    Attributes:
        value: the fraction of images classified correctly (top-1), 0 to 1.
        correct: bool (N,), on the CPU: which images.
        loss: mean cross-entropy in nats; infinite when any logit is not finite.
    """

    value: float
    correct: Tensor
    loss: float

    def beats(self, other: Score) -> bool:
        """Whether this score is strictly better: more images right, or as many at a lower loss."""
        return (self.value, -self.loss) > (other.value, -other.loss)


def score_images(
    model: nn.Module,
    images: ImageSet,
    normalise: Callable[[Tensor], Tensor],
    *,
    execution: Execution | None = None,
    batch_size: int = 250,
) -> Score:
    """Classify every image once, in evaluation mode.

    An image whose logits are not all finite counts as wrong. The model's mode, device and memory format come back.

    Args:
        model: maps float (n, C, H, W) to logits (n, classes).
        images: what to classify.
        normalise: uint8 (n, C, H, W) to float32, as the network was trained.
        execution: where and how; ``Execution.for_evaluation()`` (float32) when absent.
        batch_size: images per forward pass.

    Raises:
        DataError: there are no images, or the logits are not (n, classes) with a column for every label.
    """
    execution = execution or Execution.for_evaluation()
    labels = images.labels
    if not len(labels) or batch_size < 1:
        raise DataError(f"a score needs images and a batch size of 1 or more; got {len(labels)} and {batch_size}")
    correct = torch.zeros(len(labels), dtype=torch.bool)
    total = 0.0
    with _classifier(model, execution) as logits_of:
        for index in torch.split(torch.arange(len(labels)), batch_size):
            pixels = execution.place(images.images(index))  # bytes travel and are rearranged faster than floats
            logits = logits_of(execution.place(normalise(pixels)), labels[index])
            finite = logits.isfinite().all(dim=1)
            correct[index] = (logits.argmax(dim=1) == labels[index]) & finite
            total += float(F.cross_entropy(logits, labels[index], reduction="sum")) if bool(finite.all()) else math.inf
    return Score(value=int(correct.sum()) / len(labels), correct=correct, loss=total / len(labels))


def drop_interval(dense: Score, other: Score) -> tuple[float, float]:
    r"""95 % confidence interval of how many points ``other`` lost against ``dense`` on the same images.

    Per image d_i = dense_i - other_i in {-1, 0, 1}; with n10 images that only ``dense`` got right and n01 that only
    ``other`` got right,

        mean = (n10 - n01) / N,  var = (n10 + n01) / N - mean^2,  interval = 100 (mean -+ 1.96 sqrt(var / N)),

    the normal (Wald) approximation for paired proportions. Pairing pays: images that both get right, or both wrong, add
    no variance. It is too short when n10 + n01 is below about ten, and has no length at all when it is zero.

    Args:
        dense: the score before.
        other: the score after, on the same images in the same order.

    Returns:
        (low, high) in percentage points; positive is a loss of accuracy.

    Raises:
        DataError: the two scores are of different numbers of images.
    """
    if dense.correct.shape != other.correct.shape:
        raise DataError(
            f"a paired interval needs two scores of the same images; got {len(dense.correct)} and {len(other.correct)}"
        )
    count = len(dense.correct)
    difference = dense.correct.double() - other.correct.double()
    mean = float(difference.mean())
    half = NORMAL_97_5 * math.sqrt(max(float(difference.square().mean()) - mean**2, 0.0) / count)
    return 100 * (mean - half), 100 * (mean + half)


@dataclass(frozen=True)
class ProxyScore:
    """What a network lost against the dense one, before any training.

    Attributes:
        drop: points of accuracy (of score).
        divergence: mean divergence in nats; None where only a score is known.
        interval: 95 % interval of the drop in points, paired image by image; None likewise.
    """

    drop: float
    divergence: float | None = None
    interval: tuple[float, float] | None = None


class Proxy(Protocol):
    """From a network, and the loss of the best one so far (infinite if there is none), to what it lost.

    ``share`` of the images are enough.
    """

    def __call__(self, model: nn.Module, best: float = math.inf, share: float = 1.0, /) -> ProxyScore:
        """What ``model`` lost."""


@final
class ImageProxy:
    """The divergence from ``dense`` on some images."""

    def __init__(
        self,
        dense: nn.Module,
        images: ImageSet,
        normalise: Callable[[Tensor], Tensor],
        execution: Execution,
        batch_size: int = 250,
    ) -> None:
        """Run the dense network once and keep its answers, and the images as it takes them."""
        self.execution = execution
        self.labels = images.labels
        index = torch.split(torch.arange(len(images)), batch_size)
        self.batches = [execution.place(normalise(execution.place(images.images(part)))) for part in index]
        self.dense = self._answers(dense, math.inf)
        self.target = F.log_softmax(self.dense, dim=1)

    def __call__(self, model: nn.Module, best: float = math.inf, share: float = 1.0, /) -> ProxyScore:
        """What ``model`` lost; only a part of the images is looked at where it is hopeless beside ``best``.

        Args:
            model: the network.
            best: the least loss so far.
            share: of the images, to look at no more than the first of them.

        Raises:
            DataError: the answers are no logits of these classes.
        """
        answers = self._answers(model, best, share)
        if not bool(answers.isfinite().all()):
            return ProxyScore(100.0, math.inf)
        dense, other = (self._score(logits[: len(answers)]) for logits in (self.dense, answers))
        return ProxyScore(100.0 * (dense.value - other.value), self._divergence(answers), drop_interval(dense, other))

    def _answers(self, model: nn.Module, best: float, share: float = 1.0) -> Tensor:
        """Logits in float64, on the CPU."""
        enough = max(1, round(REJECTED_AFTER * len(self.batches)))
        rows: list[Tensor] = []
        with _classifier(model, self.execution) as logits_of:
            for number, batch in enumerate(self.batches[: max(1, math.ceil(share * len(self.batches)))], start=1):
                rows.append(logits_of(batch, self.labels[sum(map(len, rows)) :][: len(batch)]))
                judged = number == enough and math.isfinite(best)
                if judged and not self._divergence(torch.cat(rows)) <= HOPELESS * best:
                    break
        return torch.cat(rows)

    def _divergence(self, answers: Tensor) -> float:
        target = self.target[: len(answers)]
        return float(F.kl_div(F.log_softmax(answers, dim=1), target, reduction="batchmean", log_target=True))

    def _score(self, logits: Tensor) -> Score:
        correct = logits.argmax(dim=1) == self.labels[: len(logits)]
        return Score(float(correct.double().mean()), correct, math.nan)


@contextmanager
def _classifier(model: nn.Module, execution: Execution) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    """``model`` as a function of normalised images (n, C, H, W), and of their labels, which are compared with.

    It gives logits (n, classes) in float64, on the CPU. The model's mode, device and memory format come back.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    with place_model(model, execution), evaluation_mode(model), torch.inference_mode(), execution.autocast():
        yield lambda batch, labels: _comparable(model(batch.to(dtype)), labels).double().cpu()


def _comparable(logits: object, labels: Tensor) -> Tensor:
    """Return ``logits`` if they can be compared with ``labels`` (n,).

    Raises:
        DataError: they are not one (n, classes) tensor, or a label has no column.
    """
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(labels):
        raise DataError(
            f"a classifier returns logits of shape ({len(labels)}, classes) for {len(labels)} images; got {shape}: "
            "wrap the model so that it returns them"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise DataError(
            f"labels lie from 0 to {logits.shape[1] - 1} for {logits.shape[1]} logits; got {int(labels.min())} to "
            f"{int(labels.max())}: the network and the images are of different data sets"
        )
    return logits
