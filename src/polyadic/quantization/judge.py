"""Networks behind an engine scored like modules, and compared with the network that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyadic.data import ImageData, ImageSet
from polyadic.engines import Prepared
from polyadic.layers import evaluation_mode
from polyadic.training import Score, score_images
from polyadic.training.execution import Execution


class OnEngine(nn.Module):
    """A prepared network as a module of one tensor; batches smaller than the engine's are filled up and cut again."""

    def __init__(self, prepared: Prepared, batch: int) -> None:
        super().__init__()
        self._prepared = prepared
        self._batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, ...) with n up to the engine's batch to the first output (n, ...)."""
        missing = self._batch - len(x)
        filled = torch.cat([x, x[:1].expand(missing, *x.shape[1:])]) if missing else x
        return self._prepared.answer(filled)[0][: len(x)]


@dataclass(frozen=True)
class Verdict:
    """What a quantized network is on held-out training images.

    Attributes:
        accuracy: fraction of them.
        divergence: mean Kullback-Leibler divergence from the float network's answers, in nats; it tells recipes apart
            where their accuracies differ by chance.
    """

    accuracy: float
    divergence: float


class Judge:
    """Compares quantized networks with the one they were made from, on held-out training images."""

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


def score_of(network: nn.Module, images: ImageSet, data: ImageData, batch: int) -> Score:
    """Accuracy of a network, or of one behind an engine, on ``images``."""
    return score_images(network, images, data.normalise, execution=Execution(device="cpu"), batch_size=batch)
