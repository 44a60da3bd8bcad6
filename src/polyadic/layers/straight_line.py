"""A network as one straight line of calls, each convolution joined with the sum and the activation after it."""

from __future__ import annotations

import copy
import logging
import math
import operator
from typing import Any, final

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from polyadic.layers.onednn import Limits, convolution, convolution_and_sum, is_inference, is_packable

_log = logging.getLogger(__name__)

_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_IN_PLACE = {operator.iadd, "add_"}
_RELUS = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}


def straight_line(model: nn.Module, example: tuple[Any, ...] | None = None) -> fx.GraphModule | None:
    """``model`` in evaluation mode as a straight line, with the same layers under the same names.

    Args:
        model: is put into evaluation mode.
        example: its arguments, on which the line has to answer as ``model`` does.

    Returns:
        None where it cannot be followed by a symbolic trace (its way depends on its input), answers otherwise, or
        somebody watches one of its modules by a hook, who would see nothing any more.
    """
    model.eval()
    if any(_is_watched(module) for module in model.modules()):
        return None
    try:
        graph = _ThroughSequences().trace(model)
        line = fx.GraphModule(model, graph)
    except Exception as error:  # whatever a stranger's forward raises when it is traced
        _log.info("no straight line: %s: %s", type(error).__name__, error)
        return None
    _Joining(line).join()
    if example is not None and not _alike(line.eval(), model, example):
        _log.info("no straight line: it answers otherwise than the network")
        return None
    return line.eval()


class _ThroughSequences(fx.Tracer):
    """Follows sequences into their layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential) and super().is_leaf_module(m, module_qualified_name)


@final
class _Joining:
    """Rewrites a graph in place."""

    def __init__(self, line: fx.GraphModule) -> None:
        self._line, self._graph = line, line.graph
        self._layers = dict(line.named_modules())
        first = next(node for node in line.graph.nodes if node.op != "placeholder")
        with line.graph.inserting_before(first):
            self._inference = line.graph.call_function(is_inference)  # asked once in a pass

    def join(self) -> None:
        for node in [*self._graph.nodes]:
            node.type = None  # annotations as text, which cannot be saved
            if isinstance(self._layer(node), (nn.Identity, nn.Dropout)):
                node.replace_all_uses_with(node.args[0])
                self._graph.erase_node(node)
        for node in [*self._graph.nodes]:
            if is_packable(layer := self._layer(node)) and len(node.args) == 1 and not node.kwargs:
                self._join(node, layer)
        self._graph.lint()
        self._line.recompile()

    def _layer(self, node: fx.Node) -> nn.Module:
        return self._layers[str(node.target)] if node.op == "call_module" else nn.Module()

    def _join(self, node: fx.Node, layer: nn.Module) -> None:
        total, other = self._sum_after(node)
        end, limits = self._activation_after(total)
        with self._graph.inserting_before(end):
            held = self._graph.get_attr(str(node.target))
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


def _alike(line: nn.Module, model: nn.Module, example: tuple[Any, ...]) -> bool:
    with torch.no_grad():
        answers = [tree_leaves(network(*copy.deepcopy(example))) for network in (line, model)]
    try:
        torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4, equal_nan=True)
    except AssertionError:
        return False
    return True


def _target(node: fx.Node) -> Any:
    return node.target if node.op in ("call_function", "call_method") else None


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_watched(module: nn.Module) -> bool:
    return any(getattr(module, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))
