"""A quick and fine-grained answer to how much a network has lost: divergence from the dense one on held-out images.

Accuracy on a thousand images moves in steps of a tenth of a point, and a network that is compressed a little moves less
than that. The mean Kullback-Leibler divergence of its answers from the dense network's has no steps and needs no label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyadic.data.images import ImageSet
from polyadic.layers import evaluation_mode
from polyadic.training.execution import Execution, place_model
from polyadic.training.score_images import Score, check_logits, drop_interval

REJECTED_AFTER = 0.25  # of the images: where a network is hopeless by then, the rest is not looked at
HOPELESS = 4.0  # times the loss of the best network so far


@dataclass(frozen=True)
class ProxyScore:
    """What a network lost against the dense one, before any training.

    Attributes:
        drop: points of accuracy (of score).
        loss: mean divergence in nats; None where only a score is known.
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
        seen = len(answers)
        if not bool(answers.isfinite().all()):
            return ProxyScore(100.0, math.inf)
        divergence = F.kl_div(F.log_softmax(answers, dim=1), self.target[:seen], reduction="batchmean", log_target=True)
        dense, other = (self._score(logits[:seen], seen) for logits in (self.dense, answers))
        interval = drop_interval(dense, other)
        return ProxyScore(100.0 * (dense.value - other.value), float(divergence), interval)

    def _answers(self, model: nn.Module, best: float, share: float = 1.0) -> Tensor:
        """Logits in float64, on the CPU."""
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        enough = max(1, round(REJECTED_AFTER * len(self.batches)))
        rows: list[Tensor] = []
        with (
            place_model(model, self.execution),
            evaluation_mode(model),
            torch.inference_mode(),
            self.execution.autocast(),
        ):
            for number, batch in enumerate(self.batches[: max(1, math.ceil(share * len(self.batches)))], start=1):
                labels = self.labels[len(torch.cat(rows)) if rows else 0 :][: len(batch)]
                rows.append(check_logits(model(batch.to(dtype)), labels).double().cpu())
                if number == enough and math.isfinite(best) and self._hopeless(torch.cat(rows), best):
                    break
        return torch.cat(rows)

    def _hopeless(self, answers: Tensor, best: float) -> bool:
        target = self.target[: len(answers)]
        divergence = F.kl_div(F.log_softmax(answers, dim=1), target, reduction="batchmean", log_target=True)
        return not float(divergence) <= HOPELESS * best

    def _score(self, logits: Tensor, seen: int) -> Score:
        correct = logits.argmax(dim=1) == self.labels[:seen]
        return Score(float(correct.double().mean()), correct, math.nan)
