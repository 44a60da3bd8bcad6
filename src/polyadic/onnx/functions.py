"""Functions that an ONNX file defines for itself: their calls are replaced by their nodes, so that none is left.

A few functions that call each other twice grow into millions of nodes, and one that calls itself never ends, so what
they come to is counted before anything is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import inliner

from polyadic.errors import DataError
from polyadic.onnx.messages import DEEPEST, shown, told

MOST_NODES = 1_000_000
_MOST_BYTES = 256 * 2**20  # beyond those of the file itself

_TOO_DEEP = (
    f"functions and graphs stand within each other at most {DEEPEST} deep; here it is more: export without functions"
)

_Key = tuple[str, str, str]


@dataclass
class _Sizes:
    """What functions come to with all that they call: nodes, bytes, and graphs and calls within each other."""

    functions: Mapping[_Key, onnx.FunctionProto]
    known: dict[_Key, tuple[int, int, int]] = field(default_factory=dict)
    within: list[_Key] = field(default_factory=list)
    depth: int = 0

    def of_function(self, key: _Key) -> tuple[int, int, int]:
        """What a call of one function comes to."""
        if key in self.within:
            raise DataError(f"functions do not call themselves; {shown(key[1])} does: do not trust this file")
        if key not in self.known:
            self.within.append(key)
            self.known[key] = self.of_nodes(self.functions[key].node)
            self.within.pop()
        return self.known[key]

    def of_nodes(self, nodes: Iterable[onnx.NodeProto]) -> tuple[int, int, int]:
        """What nodes come to, with their graphs and the functions that they call."""
        count, size, depth = 0, 0, 0
        self.depth += 1
        if self.depth > DEEPEST:
            raise DataError(_TOO_DEEP)
        for node in nodes:
            found = [self.of_nodes(graph.node) for graph in graphs_of(node)]
            key = (node.domain, node.op_type, node.overload)
            if key in self.functions:
                found.append(self.of_function(key))
            count += 1 + sum(one[0] for one in found)
            size += node.ByteSize() + sum(one[1] for one in found)
            depth = max([depth, *(one[2] for one in found)])
        self.depth -= 1
        return count, size, depth + 1


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs within a node: branches of If, the body of Loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def check_calls(model: onnx.ModelProto) -> None:
    """Check that functions can be replaced by their nodes before anything follows their calls.

    Raises:
        DataError: functions of one name, that call themselves, stand too deep in each other, or grow too large.
    """
    functions = {(one.domain, one.name, one.overload): one for one in model.functions}
    if len(functions) < len(model.functions):
        raise DataError("functions of an ONNX file have names of their own; two are alike: export the file again")
    sizes = _Sizes(functions)
    for key in functions:
        sizes.of_function(key)
    nodes, size, depth = sizes.of_nodes(model.graph.node)
    if depth > DEEPEST:
        raise DataError(_TOO_DEEP)
    if nodes > MOST_NODES or size > _MOST_BYTES + model.ByteSize():
        raise DataError(
            f"functions of an ONNX file come to at most {MOST_NODES:,} nodes, and to 256 MiB more than the file; these "
            "come to more: do not trust this file"
        )


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the calls of its functions replaced by their nodes; :func:`check_calls` has seen it.

    Raises:
        DataError: functions that are written for another set of operators than the file.
    """
    try:
        result = inliner.inline_local_functions(model)
    except Exception as error:  # of C++, of several kinds
        raise DataError(
            f"functions of an ONNX file can be replaced by their nodes; the onnx package says: {told(error)}: export "
            "the file without functions"
        ) from error
    if len(result.functions):
        raise DataError(
            f"functions of an ONNX file are written for its own set of operators; {shown(result.functions[0].name)} is "
            "not: export the file without functions"
        )
    return result
