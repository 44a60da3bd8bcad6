"""The kernels of the dense network, factored on demand: each choice once, the same for every search."""

from __future__ import annotations

from torch import Tensor, nn

from polyadic.decomposition import InputNorm
from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.pipeline.options import CompressOptions
from polyadic.schema import Choice
from polyadic.surgery import layer_at


class Kernels:
    """Decomposes what a search asks for, by way of the cache."""

    def __init__(self, dense: nn.Module, options: CompressOptions) -> None:
        """Decompose nothing yet."""
        self.dense = dense
        self.options = options
        self.norms: dict[str, InputNorm] = {}

    def alone(self, choice: Choice) -> FactoredKernel:
        """One layer decomposed in the norm of its inputs in the dense network, as far as they were measured.

        Raises:
            LayerError: as in :meth:`factorise`.
        """
        _, kernel, _ = layer_at(self.dense, choice.layer)
        return self.factorise(choice, kernel.detach(), self.norms.get(choice.layer))

    def factorise(self, choice: Choice, kernel: Tensor, norm: InputNorm | None) -> FactoredKernel:
        """The factored kernel for a choice.

        Args:
            choice: layer, format, rank.
            kernel: T x S/groups x window, of the layer or near it.
            norm: of the layer's inputs.

        Raises:
            LayerError: the layer cannot be factorised so; the message names it.
        """
        _, _, spec = layer_at(self.dense, choice.layer)
        fmt, options = format_named(choice.format), self.options
        try:
            return options.cache.factorise(kernel, spec, fmt, choice.rank, options.seed, norm)
        except LayerError as error:
            raise LayerError(f"layer {choice.layer!r}: {error}") from error
