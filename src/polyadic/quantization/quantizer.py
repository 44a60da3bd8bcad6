"""The interface of a quantizer: a network, a recipe and batches to take ranges from, to files with 8-bit weights."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polyadic.engines import Conditions, Prepared, first_line
from polyadic.errors import QuantizationError

End = Literal["first", "last"]


@dataclass(frozen=True)
class QuantizeOptions:
    """What need not be said.

    Attributes:
        images: training images that ranges of activations are taken from.
        batch: images of a pass.
        judges: held-out training images that choose among recipes; all of them where there are fewer.
        balance: move the scales of chains to where 8 bits want them first.
        ends: try the first and the last layer in float32.
        worth: share of the divergence that a layer in float32 has to save.

    Raises:
        QuantizationError: a number out of its range.
    """

    images: int = 512
    batch: int = 64
    judges: int = 2000
    balance: bool = True
    ends: bool = True
    worth: float = 0.2

    def __post_init__(self) -> None:
        for name in ("images", "batch", "judges"):
            if getattr(self, name) < 1:
                raise QuantizationError(f"{name} is a number of images from 1 up; got {getattr(self, name)}")
        if not 0 <= self.worth < 1:
            raise QuantizationError(f"worth is a share from 0 to below 1; got {self.worth}")


@dataclass(frozen=True)
class Recipe:
    """One way to quantize.

    Attributes:
        method: how ranges of activations are found, in the quantizer's words.
        kept: ends of the network that stay in float32.
        corrected: biases are shifted to the float network's mean outputs.
    """

    method: str
    kept: tuple[End, ...] = ()
    corrected: bool = False

    def __str__(self) -> str:
        """As people read it."""
        biases = ", biases corrected" if self.corrected else ""
        return self.method + biases + (f", {' and '.join(self.kept)} layer in float32" if self.kept else "")


@dataclass(frozen=True)
class Artefact:
    """A network as files.

    Attributes:
        files: the content of each by the end of its name, such as ``.onnx``; all of them are needed to run it.
    """

    files: Mapping[str, bytes]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(len(content) for content in self.files.values())


class QuantizerSession(ABC):
    """One network, written for an engine, and the batches that ranges are taken from."""

    @abstractmethod
    def write_float(self) -> Artefact:
        """The network in float32."""

    @abstractmethod
    def quantize(self, recipe: Recipe) -> Artefact:
        """The network in 8 bits."""


class Quantizer(ABC):
    """One library that quantizes after training, for one engine.

    Attributes:
        name: of the engine, on the command line.
        methods: ways to find ranges of activations, the usual one first.
        keeps_ends: whether single layers can be left in float32.
        corrects: whether recipes say if biases are corrected; no where they never are, and where they always are.
    """

    name: ClassVar[str]
    methods: ClassVar[Sequence[str]]
    keeps_ends: ClassVar[bool]
    corrects: ClassVar[bool]

    @abstractmethod
    def missing(self) -> str | None:
        """What is not there, with the command that installs it; None where it can be used."""

    @abstractmethod
    def _open(self, network: nn.Module, batches: Sequence[Tensor]) -> QuantizerSession:
        """Write the network for the engine; whatever the libraries raise may leave."""

    @abstractmethod
    def prepare(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        """A network from its files alone, made ready for inputs of the example's shape."""

    def open(self, network: nn.Module, batches: Sequence[Tensor]) -> QuantizerSession:
        """``network`` in evaluation mode, ready to be quantized; it is left as it was.

        Args:
            network: any module from one tensor to one tensor, batch first.
            batches: inputs (n, ...) with n above 1, training images as a rule.

        Raises:
            QuantizationError: a library is missing, or cannot take the network.
        """
        reason = self.missing()
        if reason is not None:
            raise QuantizationError(f"{self.name}: {reason}")
        try:
            return self._open(network, batches)
        except Exception as error:  # whatever a stranger's compiler raises
            raise QuantizationError(
                f"{self.name} cannot take this network: {type(error).__name__}: {first_line(error)}"
            ) from error


def layers_in_float(layers: Sequence[str], recipe: Recipe) -> list[str]:
    """Which of a network's ``layers``, named in their order, a recipe leaves in float32."""
    ends: dict[End, str] = {"first": layers[0], "last": layers[-1]} if layers else {}
    return [ends[end] for end in recipe.kept if end in ends]


def weight_bits() -> int:
    """Of which the numbers of a weight make use in files for this processor: 8, or 7 where sums would be cut off.

    Processors of the x86 family without instructions for products of 8 bits (VNNI) add two such products in 16 bits.
    Products of 8 bits can be too large for that, and then answers are lost; those of 7 bits always fit.
    """
    has_vnni: Any = getattr(torch.cpu, "_is_vnni_supported", None)  # torch has no public name for it
    cut_off = platform.machine().lower() in ("x86_64", "amd64") and has_vnni is not None and not has_vnni()
    return 7 if cut_off else 8
