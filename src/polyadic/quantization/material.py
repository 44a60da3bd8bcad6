"""What a network is brought to 8 bits by: images with labels, or samples of any kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.errors import QuantizationError
from polyadic.quantization.judges import ImageJudge, Judge, OutputsJudge
from polyadic.quantization.quantizer import QuantizeOptions
from polyadic.training import SampleTask

_NUMBERS = 2**23
"""Numbers of the inputs of a pass, at most, unless one sample holds more."""


class Material(ABC):
    """Inputs that give ranges, and others that choose the recipe."""

    @abstractmethod
    def calibration_batches(self, options: QuantizeOptions) -> list[Tensor]:
        """What ranges of activations are taken from; a single sample that is left over is not used."""

    @abstractmethod
    def judge(self, network: nn.Module, options: QuantizeOptions) -> Judge:
        """Who compares recipes with ``network``, on none of the samples that give ranges."""

    @abstractmethod
    def inputs(self, count: int) -> Tensor:
        """``count`` of those that give ranges, over and over where there are fewer."""

    @abstractmethod
    def batch(self, options: QuantizeOptions) -> int:
        """How many samples a pass takes that compares networks."""


@final
class ImageMaterial(Material):
    """Images with labels: those that train give ranges, those held out choose."""

    def __init__(self, data: ImageData) -> None:
        self._data = data

    def calibration_batches(self, options: QuantizeOptions) -> list[Tensor]:
        """Normalised training images (n, C, H, W), none of them held out."""
        count = min(options.images, len(self._data.train))
        index = torch.split(torch.arange(count), options.batch)
        return [self._images(part) for part in index if len(part) > 1 or len(index) == 1]

    def judge(self, network: nn.Module, options: QuantizeOptions) -> Judge:
        """Answers on held-out training images."""
        return ImageJudge(network, self._data, options.judges, options.batch)

    def inputs(self, count: int) -> Tensor:
        """Normalised training images."""
        return self._images(torch.arange(count) % len(self._data.train))

    def batch(self, options: QuantizeOptions) -> int:
        """As the options say."""
        return options.batch

    def _images(self, index: Tensor) -> Tensor:
        return self._data.normalise(self._data.train.images(index))


@final
class SampleMaterial(Material):
    """Samples of any kind: those that teach give ranges, those that are held out choose by the outputs."""

    def __init__(self, task: SampleTask) -> None:
        """Put the samples together.

        Raises:
            QuantizationError: the network takes several tensors, or samples of several sizes.
        """
        self._task = task
        self._train = self._together(task.train)

    def calibration_batches(self, options: QuantizeOptions) -> list[Tensor]:
        """Samples that teach."""
        batches = torch.split(self._train[: options.images], self.batch(options))
        return [batch for batch in batches if len(batch) > 1 or len(batches) == 1]

    def judge(self, network: nn.Module, options: QuantizeOptions) -> Judge:
        """Outputs for the samples that are held out."""
        held_out = self._together(self._task.held_out)[: options.judges]
        return OutputsJudge(network, torch.split(held_out, self.batch(options)), self._task.compare)

    def inputs(self, count: int) -> Tensor:
        """Samples that teach."""
        return self._train[torch.arange(count) % len(self._train)]

    def batch(self, options: QuantizeOptions) -> int:
        """Samples of a pass: as the options say, unless they are large or few."""
        return max(1, min(options.batch, len(self._train), _NUMBERS // self._train[0].numel()))

    def _together(self, batches: list[object]) -> Tensor:
        inputs = [self._task.inputs_of(batch) for batch in batches]
        tensors = [each for each in inputs if isinstance(each, Tensor)]
        if len(tensors) < len(inputs):
            raise QuantizationError(
                "networks of one input are quantized, and this one takes several: quantize the files that export "
                "writes with the engine's own tools"
            )
        shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
        if len(shapes) > 1:
            raise QuantizationError(
                f"networks are quantized with samples of one size; got {sorted(shapes)}: give samples of one of them"
            )
        return torch.cat(tensors)


def material_of(data: ImageData | SampleTask) -> Material:
    """What a network is quantized by."""
    return ImageMaterial(data) if isinstance(data, ImageData) else SampleMaterial(data)
