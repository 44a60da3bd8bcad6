"""Whether the graph of an ONNX file is one: every value has one maker, which comes before all that takes it."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import defs

from polyadic.errors import DataError
from polyadic.onnx.functions import graphs_of
from polyadic.onnx.messages import shown
from polyadic.onnx.tensor_data import array_of
from polyadic.onnx.tensor_formats import FLOATS

_WEIGHTED = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


def check_graph(graph: onnx.GraphProto, opsets: Mapping[str, int]) -> None:
    """Check a graph and those within its nodes.

    Args:
        graph: that of the model itself.
        opsets: the version of each set of operators that the file names, by its domain.

    Raises:
        DataError: no inputs, outputs or nodes; names that are there twice, that nothing gives, or that are given later;
            operators that the sets do not have.
    """
    for what, held in (("nodes", graph.node), ("outputs", graph.output)):
        if not len(held):
            raise DataError(f"a network has {what}; the graph {shown(graph.name)} has none: export the file again")
    constants = {tensor.name for tensor in graph.initializer}
    if all(value.name in constants for value in graph.input):
        raise DataError(f"a network takes an input; the graph {shown(graph.name)} takes none: export the file again")
    _check_values(graph, (), opsets)


def check_weights(graph: onnx.GraphProto) -> None:
    """Check that the weights of layers and of matrix products are finite, in a graph and those within its nodes.

    Raises:
        DataError: a weight holds NaN or infinity.
    """
    _check_finite(graph, ChainMap())


def _check_values(graph: onnx.GraphProto, outer: tuple[set[str], ...], opsets: Mapping[str, int]) -> None:
    """Walk the nodes in their order, with the names that are known before each; ``outer`` are those around it."""
    _check_once("inputs", [value.name for value in graph.input])
    _check_once("initialisers", [tensor.name for tensor in graph.initializer])
    _check_once("outputs", [value.name for value in graph.output])
    if len(graph.sparse_initializer):
        name = shown(graph.sparse_initializer[0].values.name)
        raise DataError(f"initialisers are dense; {name} is a sparse one: export the file with dense weights")
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    scopes = (known, *outer)
    makers = Counter(name for node in graph.node for name in node.output if name)
    for node in graph.node:
        _check_node(node, opsets)
        for name in node.input:
            if name and not any(name in names for names in scopes):
                raise DataError(_not_known(name, node, name in makers))
        for inner in graphs_of(node):
            _check_values(inner, scopes, opsets)
        for name in node.output:
            if name in known or makers[name] > 1:
                raise DataError(
                    f"a value has one name and one maker; {shown(name)} is made by the node {_named(node)} and "
                    "elsewhere: export the file again"
                )
            if name:
                known.add(name)
    for value in graph.output:
        if not any(value.name in names for names in scopes):
            raise DataError(
                f"outputs are made by nodes; nothing gives {shown(value.name)}, an output of the graph "
                f"{shown(graph.name)}: export the file again"
            )


def _check_once(what: str, names: list[str]) -> None:
    """Names that say which value is meant are there, and there once."""
    if "" in names:
        raise DataError(f"{what} have names; one has none: export the file again")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{what} have names of their own; {shown(twice[0])} is there twice: export the file again")


def _not_known(name: str, node: onnx.NodeProto, later: bool) -> str:
    if later:
        return (
            f"nodes stand after those whose values they take, and in no circle; {_named(node)} takes {shown(name)}, "
            "which is made by itself or later: sort the nodes"
        )
    return (
        f"what a node takes is an input, an initialiser or the value of a node; {_named(node)} takes {shown(name)}, "
        "which nothing gives: an initialiser is missing, export the file again"
    )


def _named(node: onnx.NodeProto) -> str:
    return f"{shown(node.op_type)} {shown(node.name)}" if node.name else shown(node.op_type)


def _check_node(node: onnx.NodeProto, opsets: Mapping[str, int]) -> None:
    version = opsets.get(node.domain)
    if version is None:
        raise DataError(
            f"a file names every set of operators that it uses; {_named(node)} is of {shown(node.domain)}, which it "
            "does not name: export the file again"
        )
    if not node.op_type:
        raise DataError(f"a node says which operator it is; {_named(node)} does not: export the file again")
    if not node.domain and not defs.has(node.op_type, version, ""):
        raise DataError(
            f"operators are those of opset {version} of ONNX; {_named(node)} is none of them: export the file for the "
            "opset that has it, or under a domain of your own"
        )
    twice = [name for name, count in Counter(one.name for one in node.attribute).items() if count > 1]
    if twice:
        raise DataError(
            f"an attribute is said once; {_named(node)} says {shown(twice[0])} twice: export the file again"
        )
    if not node.domain:
        _check_attributes(node)


def _check_attributes(node: onnx.NodeProto) -> None:
    """Attributes of ONNX's own operators: texts are UTF-8, and tensors are dense."""
    for attribute in node.attribute:
        if attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors):
            raise DataError(f"tensors are dense; {_named(node)} holds a sparse one: export the file with dense tensors")
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode()
            except UnicodeDecodeError:
                raise DataError(
                    f"texts of an ONNX file are UTF-8; {shown(attribute.name)} of {_named(node)} is not: export the "
                    "file again"
                ) from None


def _check_finite(graph: onnx.GraphProto, outer: ChainMap[str, onnx.TensorProto | None]) -> None:
    """Look at each weight once: its place is emptied when it was found to be finite."""
    held = outer.new_child({tensor.name: tensor for tensor in graph.initializer})
    held.update(_constants(graph.node))
    for node in graph.node:
        for name in node.input if node.op_type in _WEIGHTED and not node.domain else ():
            tensor = held.get(name)
            if tensor is None or tensor.data_type not in FLOATS:
                continue
            if not np.isfinite(array_of(tensor)).all():
                raise DataError(
                    f"weights are finite; {shown(name)}, a weight of {_named(node)}, holds NaN or infinity: export a "
                    "network whose training did not diverge"
                )
            next(names for names in held.maps if name in names)[name] = None
        for inner in graphs_of(node):
            _check_finite(inner, held)


def _constants(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Tensors that nodes hold, under the names of the values that they give."""
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" and not node.domain else ():
            if attribute.HasField("t") and node.output:
                yield node.output[0], attribute.t
