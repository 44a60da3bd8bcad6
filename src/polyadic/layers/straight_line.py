"""A network as one straight line of calls, each convolution joined with the sum and the activation after it."""

from __future__ import annotations

import copy
import logging
import math
import operator
from collections.abc import Callable
from typing import Any, final

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from polyadic.layers.onednn import Limits, convolution, convolution_and_sum, is_inference, is_packable

_log = logging.getLogger(__name__)

_LAYERS = "_polyadic_layers"  # in a list at hand: their names are long ways through modules, taken in every pass

_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_IN_PLACE = {operator.iadd, "add_"}
_RELUS = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}


def run_straight(model: nn.Module, example: tuple[Any, ...] | None = None) -> bool:
    """Put ``model`` into evaluation mode and give it another ``forward``: a straight line through the same layers.

    Args:
        model: is changed in place; its layers, their names and its class, of which it becomes an heir, stay.
        example: its arguments, on which the line has to answer as ``model`` did.

    Returns:
        Whether it was done. Not where a symbolic trace cannot follow (the way depends on the input) or answers
        otherwise, or where somebody watches one of the modules by a hook, and would see nothing any more.
    """
    model.eval()
    if any(_is_watched(module) for module in model.modules()):
        return False
    try:
        line = fx.GraphModule(model, _ThroughSequences().trace(model))
        forward = _Joining(line).joined()
    except Exception as error:  # whatever a stranger's forward raises when it is traced
        _log.info("no straight line: %s: %s", type(error).__name__, error)
        return False
    answer = None if example is None else _answer(model, example)
    bent, layers = type(model), line.__dict__[_LAYERS]
    model.__class__ = type(f"StraightLine{bent.__name__}", (bent,), {"forward": forward, "graph_of_line": line.graph})
    model.__dict__[_LAYERS] = layers
    if example is None or _alike(_answer(model, example), answer):
        return True
    _log.info("no straight line: it answers otherwise than the network")
    model.__class__ = bent
    del model.__dict__[_LAYERS]
    return False


class _ThroughSequences(fx.Tracer):
    """Follows sequences into their layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential) and super().is_leaf_module(m, module_qualified_name)


@final
class _Joining:
    """Rewrites a graph in place."""

    def __init__(self, line: fx.GraphModule) -> None:
        self._graph = line.graph
        self._modules = dict(line.named_modules())
        self._layers: list[nn.Module] = []
        first = next(node for node in line.graph.nodes if node.op != "placeholder")
        line.__dict__[_LAYERS] = self._layers
        with line.graph.inserting_before(first):
            self._inference = line.graph.call_function(is_inference)  # asked once in a pass
            self._held = line.graph.create_node("get_attr", _LAYERS)

    def joined(self) -> Callable[..., Any]:
        """The ``forward`` of the graph that is left."""
        for node in [*self._graph.nodes]:
            node.type = None  # annotations as text, which the code could not name
            if isinstance(self._layer(node), (nn.Identity, nn.Dropout)):
                node.replace_all_uses_with(node.args[0])
                self._graph.erase_node(node)
        for node in [*self._graph.nodes]:
            if is_packable(layer := self._layer(node)) and len(node.args) == 1 and not node.kwargs:
                self._join(node, layer)
        code = self._graph.python_code("self")
        exec(code.src, code.globals)  # what the trace has written, as fx itself does
        forward: Callable[..., Any] = code.globals["forward"]
        return forward

    def _layer(self, node: fx.Node) -> nn.Module:
        return self._modules[str(node.target)] if node.op == "call_module" else nn.Module()

    def _join(self, node: fx.Node, layer: nn.Module) -> None:
        total, other = self._sum_after(node)
        end, limits = self._activation_after(total)
        with self._graph.inserting_before(end):
            self._layers.append(layer)
            held = self._graph.call_function(operator.getitem, (self._held, len(self._layers) - 1))
            if other is None:
                new = self._graph.call_function(convolution, (node.args[0], held, limits, self._inference))
            else:
                overwrite = self._is_done_with(other, total)
                new = self._graph.call_function(
                    convolution_and_sum, (node.args[0], held, other, limits, overwrite, self._inference)
                )
        end.replace_all_uses_with(new)
        for old in dict.fromkeys((end, total, node)):
            self._graph.erase_node(old)

    def _sum_after(self, node: fx.Node) -> tuple[fx.Node, fx.Node | None]:
        """The sum that alone reads ``node``, and what else it sums; ``node`` itself where there is none."""
        reader = _only_reader(node)
        if reader is None or _target(reader) not in _SUMS or len(reader.args) != 2 or reader.kwargs:
            return node, None
        others = [one for one in reader.args if one is not node]
        if len(others) != 1 or not isinstance(others[0], fx.Node):
            return node, None
        overwritten = reader.args[0] if _target(reader) in _IN_PLACE else node
        return (reader, others[0]) if overwritten is node else (node, None)

    def _activation_after(self, node: fx.Node) -> tuple[fx.Node, Limits | None]:
        """The activation that alone reads ``node``; ``node`` itself where there is none."""
        reader = _only_reader(node)
        if reader is not None:
            layer = self._layer(reader)
            if _target(reader) in _RELUS or type(layer) is nn.ReLU:
                return reader, (0.0, math.inf)
            if type(layer) is nn.ReLU6:
                return reader, (0.0, 6.0)
        return node, None

    def _is_done_with(self, value: fx.Node, total: fx.Node) -> bool:
        """Whether a tensor is one of ours, made by a convolution, and only convolutions before ``total`` read it."""
        before = [reader for reader in value.users if reader is not total]
        return self._is_ours(value) and all(reader < total and self._is_ours(reader) for reader in before)

    def _is_ours(self, node: fx.Node) -> bool:
        return node.target in (convolution, convolution_and_sum) or is_packable(self._layer(node))


def _answer(model: nn.Module, example: tuple[Any, ...]) -> list[Any]:
    with torch.no_grad():
        return tree_leaves(model(*copy.deepcopy(example)))


def _alike(one: list[Any], other: list[Any] | None) -> bool:
    try:
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)
    except AssertionError:
        return False
    return True


def _target(node: fx.Node) -> Any:
    return node.target if node.op in ("call_function", "call_method") else None


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_watched(module: nn.Module) -> bool:
    return any(getattr(module, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))
