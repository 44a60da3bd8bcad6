"""Who compares networks in 8 bits with those they were made from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.engines import Prepared
from polyadic.layers import evaluation_mode
from polyadic.training import Compare
from polyadic.training.outputs import answers, distance_of


class OnEngine(nn.Module):
    """A prepared network as a module of one tensor, of any number of samples.

    Batches smaller than the engine's are filled up and cut again, larger ones are divided.
    """

    def __init__(self, prepared: Prepared, batch: int) -> None:
        super().__init__()
        self._prepared = prepared
        self._batch = batch

    def forward(self, x: Tensor) -> Any:
        """Map (n, ...) to the output (n, ...), or to a tuple of several."""
        parts = [self._answer(part) for part in torch.split(x, self._batch)]
        outputs = tuple(torch.cat(output) for output in zip(*parts, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs

    def _answer(self, x: Tensor) -> tuple[Tensor, ...]:
        missing = self._batch - len(x)
        filled = torch.cat([x, x[:1].expand(missing, *x.shape[1:])]) if missing else x
        return tuple(output[: len(x)] for output in self._prepared.answer(filled))


@dataclass(frozen=True)
class Verdict:
    """What a quantized network is on what gave no ranges.

    Attributes:
        accuracy: fraction of the held-out training images; None for samples, which have no labels.
        divergence: from the float network, which tells recipes apart where their accuracies differ by chance: of images
            the mean Kullback-Leibler divergence of the answers, in nats; of samples the share of the outputs that is
            lost (:func:`polyadic.distillation_loss`).
    """

    accuracy: float | None
    divergence: float


class Judge(ABC):
    """Compares quantized networks with the one they were made from."""

    @abstractmethod
    def verdict(self, network: nn.Module) -> Verdict:
        """Of a network on the same samples."""


@final
class ImageJudge(Judge):
    """On held-out training images."""

    def __init__(self, network: nn.Module, data: ImageData, count: int, batch: int) -> None:
        """Run ``network`` once over the first ``count`` held-out images."""
        images = data.held_out
        self._labels = images.labels[:count]
        index = torch.split(torch.arange(len(self._labels)), batch)
        self._batches: Sequence[Tensor] = [data.normalise(images.images(part)) for part in index]
        self._wanted = self._log_probabilities(network)

    def verdict(self, network: nn.Module) -> Verdict:
        """Of a network on the same images."""
        log_q, log_p = self._log_probabilities(network), self._wanted
        divergence = (log_p.exp() * (log_p - log_q)).sum(1)
        accuracy = (log_q.argmax(1) == self._labels).double().mean()
        return Verdict(float(accuracy), float(divergence.mean()))

    def _log_probabilities(self, network: nn.Module) -> Tensor:
        with torch.no_grad(), evaluation_mode(network):
            return torch.cat([network(batch).double().log_softmax(1) for batch in self._batches])


@final
class OutputsJudge(Judge):
    """By all outputs, on samples without labels."""

    def __init__(self, network: nn.Module, batches: Sequence[Tensor], compare: Compare) -> None:
        """Run ``network`` once over ``batches``."""
        self._batches, self._compare = batches, compare
        self._wanted = answers(network, batches)

    def verdict(self, network: nn.Module) -> Verdict:
        """Of a network on the same samples; NaN where outputs are not finite."""
        lost = distance_of(answers(network, self._batches), self._wanted, self._compare)
        return Verdict(None, lost if math.isfinite(lost) else math.nan)
