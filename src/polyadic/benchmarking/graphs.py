"""Networks as the engines get them: folded for PyTorch, and as ONNX graphs, written once each, for the others.

The other engines fold batch norms by themselves, so that PyTorch without it would be timed on another network.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from polyadic.engines import first_line, onnx_bytes, refused_layer
from polyadic.errors import EngineError, LayerError
from polyadic.surgery import fold_and_merge


def fold_networks(networks: Mapping[str, nn.Module], example: Tensor) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The same networks with batch norms folded and neighbours merged, and what was done to each, in words.

    A network that cannot be folded is taken as it is.
    """
    made: dict[str, nn.Module] = {}
    said: dict[str, str] = {}
    for name, network in networks.items():
        try:
            result = fold_and_merge(network, example)
        except LayerError as error:
            made[name], said[name] = network, f"taken as it is: {error}"
            continue
        made[name] = result.model
        said[name] = f"{len(result.done)} changes made, {len(result.left)} refused"
    return made, said


class Graphs:
    """Graphs of ``networks``, written when they are first asked for; to write one takes many seconds."""

    def __init__(self, networks: Mapping[str, nn.Module], *, one_batch: bool) -> None:
        """``one_batch`` says that a graph of a single, fixed batch is enough."""
        self._networks = networks
        self._one_batch = one_batch
        self._free: dict[str, bytes | None] = {}
        self._fixed: dict[tuple[str, int], bytes | EngineError] = {}

    def of(self, name: str, batch: Tensor) -> bytes:
        """The graph of a network for inputs of this shape, its first dimension being free where the network allows it.

        Raises:
            EngineError: the network cannot be written as a graph; with the layer that cannot, where one is by itself.
        """
        if not self._one_batch and name not in self._free:
            self._free[name] = self._with_free_batch(name, batch)
        free = self._free.get(name)
        if free is not None:
            return free
        key = name, len(batch)
        if key not in self._fixed:
            self._fixed[key] = self._with_this_batch(name, batch)
        graph = self._fixed[key]
        if isinstance(graph, EngineError):
            raise graph
        return graph

    def _with_this_batch(self, name: str, batch: Tensor) -> bytes | EngineError:
        """The graph, or why there is none: the next engine asks again, and the answer takes many seconds too."""
        network = self._networks[name]
        try:
            return onnx_bytes(network, (batch,))
        except EngineError as error:
            return error
        except Exception as error:  # whatever the exporter raises
            layer = refused_layer(network, (batch,), onnx_bytes)
            advice = f"{layer} (write that layer otherwise)" if layer else "this network"
            return EngineError(f"torch writes no ONNX graph of {advice}: {type(error).__name__}: {first_line(error)}")

    def _with_free_batch(self, name: str, batch: Tensor) -> bytes | None:
        """None where the network takes one batch alone, such as one that reshapes by numbers."""
        two = batch if len(batch) > 1 else batch.repeat(2, *(1,) * (batch.dim() - 1))
        try:
            return onnx_bytes(self._networks[name], (two,), dynamic_batch=True)
        except Exception:  # whatever the exporter raises: a graph of this batch alone may still be written
            return None
