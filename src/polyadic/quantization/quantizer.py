"""The interface of a quantizer: a network, and batches to take ranges from, to files with 8-bit weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from polyadic.engines import Conditions, Prepared
from polyadic.errors import QuantizationError
from polyadic.quantization.options import Recipe


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


class Bench(ABC):
    """One network, written for an engine, and the batches that ranges are taken from."""

    @abstractmethod
    def plain(self) -> Artefact:
        """The network in float32."""

    @abstractmethod
    def quantized(self, recipe: Recipe) -> Artefact:
        """The network in 8 bits."""


class Quantizer(ABC):
    """One library that quantizes after training, for one engine."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the engine, on the command line."""

    @property
    @abstractmethod
    def methods(self) -> Sequence[str]:
        """Ways to find ranges of activations, the usual one first."""

    @property
    @abstractmethod
    def keeps_ends(self) -> bool:
        """Whether single layers can be left in float32."""

    @property
    @abstractmethod
    def corrects(self) -> bool:
        """Whether recipes say if biases are corrected; no where they never are, and where they always are."""

    @abstractmethod
    def missing(self) -> str | None:
        """What is not there, with the command that installs it; None where it can be used."""

    @abstractmethod
    def _open(self, network: nn.Module, batches: Sequence[Tensor]) -> Bench:
        """Write the network for the engine; whatever the libraries raise may leave."""

    @abstractmethod
    def prepared(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        """A network from its files alone, made ready for inputs of the example's shape."""

    def opened(self, network: nn.Module, batches: Sequence[Tensor]) -> Bench:
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
            first = (str(error).strip() or "no message").splitlines()[0]
            raise QuantizationError(f"{self.name} cannot take this network: {type(error).__name__}: {first}") from error
