"""How much a network with other kernels still knows: accuracy and divergence, as it is and with fresh batch norms."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.surgery import keep_statistics, recalibrate
from polyadic.training import Execution, ImageProxy, place_model, score_images
from polyadic.training.snapshot import weights_digest

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Scores:
    """What a network reaches on held-out training images.

    Attributes:
        accuracy: fraction of images, 0 to 1.
        divergence: mean Kullback-Leibler divergence from the dense network's answers, in nats.
        accuracy_recalibrated: the accuracy with batch-norm statistics of the changed network; None without batch norm.
        divergence_recalibrated: the divergence likewise.
    """

    accuracy: float
    divergence: float
    accuracy_recalibrated: float | None
    divergence_recalibrated: float | None

    @staticmethod
    def mean(several: Sequence[Scores]) -> Scores:
        """The average of one or more."""
        return Scores(
            sum(one.accuracy for one in several) / len(several),
            sum(one.divergence for one in several) / len(several),
            _mean([one.accuracy_recalibrated for one in several]),
            _mean([one.divergence_recalibrated for one in several]),
        )


class Scorer:
    """Scores networks beside the dense one; its images are normalised once."""

    def __init__(
        self,
        dense: nn.Module,
        data: ImageData,
        execution: Execution,
        *,
        images: int,
        batch_size: int,
        calibration_images: int = 1,
        test_images: int | None = 0,
    ) -> None:
        """Run the dense network once over the held-out images.

        Args:
            dense: the network that all others are compared with.
            data: its images.
            execution: where and how passes run.
            images: held-out training images for each accuracy.
            batch_size: images per pass.
            calibration_images: training images for batch-norm statistics.
            test_images: None for all, 0 for none.

        Raises:
            DataError: its answers are no logits of these classes.
        """
        self.data, self.execution, self.batch_size, self.test_images = data, execution, batch_size, test_images
        self.held_out = data.held_out.take(torch.arange(min(images, len(data.held_out))))
        self._proxy = ImageProxy(dense, self.held_out, data.normalise, execution, batch_size)
        self.dense_accuracy = float((self._proxy.dense.argmax(dim=1) == self.held_out.labels).double().mean())
        self._calibration = self._calibration_batches(min(calibration_images, len(data.train)))
        self.has_batch_norm = any(
            isinstance(module, BATCH_NORMS) and module.track_running_stats for module in dense.modules()
        )
        self.dense = self.scores(dense)

    def scores(self, model: nn.Module) -> Scores:
        """Score ``model``, whose batch-norm statistics come back as they were."""
        accuracy, divergence = self.score(model)
        if not self.has_batch_norm:
            return Scores(accuracy, divergence, None, None)
        with self.own_statistics(model):
            return Scores(accuracy, divergence, *self.score(model))

    def test_accuracies(self, model: nn.Module) -> tuple[float, float | None]:
        """Accuracy on test images as ``model`` is, and recalibrated (None without batch norm)."""
        as_it_is = self._test(model)
        if not self.has_batch_norm:
            return as_it_is, None
        with self.own_statistics(model):
            return as_it_is, self._test(model)

    @contextmanager
    def own_statistics(self, model: nn.Module) -> Iterator[None]:
        """``model`` with batch-norm statistics of its own features; on leaving, the old ones come back."""
        execution = self.execution
        with keep_statistics(model):
            with place_model(model, execution), execution.autocast():
                recalibrate(model, self._calibration)
            yield

    def score(self, model: nn.Module) -> tuple[float, float]:
        """Accuracy and divergence of ``model`` as it is."""
        lost = self._proxy(model)
        right = round(
            (self.dense_accuracy - lost.drop / 100.0) * len(self.held_out)
        )  # a count again, without its rounding
        return max(right, 0) / len(self.held_out), math.inf if lost.divergence is None else lost.divergence

    def _test(self, model: nn.Module) -> float:
        images, data = self.data.test, self.data
        if self.test_images is not None:
            images = images.take(torch.arange(min(self.test_images, len(images))))
        return score_images(model, images, data.normalise, execution=self.execution, batch_size=self.batch_size).value

    def _calibration_batches(self, count: int) -> list[Tensor]:
        index = torch.split(torch.arange(count), self.batch_size)
        # batch norm has no variance of a single 1 x 1 feature
        kept = [part for part in index if len(part) > 1] or list(index)
        place, data = self.execution.place, self.data
        return [place(data.normalise(place(data.train.images(part)))) for part in kept]


@contextmanager
def replace_kernels(model: nn.Module, kernels: Mapping[str, Tensor]) -> Iterator[None]:
    """``model`` with other kernels in some layers; on leaving, the old ones come back, bit for bit."""
    parameters = {name: model.get_parameter(f"{name}.weight") for name in kernels}
    saved = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kernels[name])
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])


def digest_of(network: nn.Module, data: ImageData, decisive: str) -> str:
    """A name for the rows that ``network`` and ``data`` give under options described by ``decisive``."""
    labels = hashlib.sha256(data.held_out.labels.contiguous().numpy().tobytes()).hexdigest()
    images = (data.name, sorted(data.digests.items()), data.mean, data.std, labels)
    return hashlib.sha256(repr((decisive, images, weights_digest(network))).encode()).hexdigest()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
