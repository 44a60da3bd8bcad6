"""ONNX files that are damaged, or made to do harm: each is refused in one sentence, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from small_files import (
    branch,
    call,
    condition,
    function,
    nested,
    network,
    refused,
    value,
    with_functions,
    with_tail,
)

CONTENTS = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, world\n", "one message of protobuf"),
    "zeros": (bytes(1000), "one message of protobuf"),
    "ones": (b"\xff" * 1000, "one message of protobuf"),
    "a zip archive": (b"PK\x03\x04" + bytes(100), "one message of protobuf"),
    "first half": (network().SerializeToString()[:500], "one message of protobuf"),
    "last byte lost": (network().SerializeToString()[:-1], "one message of protobuf"),
    "a field of 2^63 bytes": (b"\x3a" + b"\xff" * 8 + b"\x7f", "one message of protobuf"),
    "groups in groups": (b"\x0b" * 100_000, "one message of protobuf"),
    "no graph": (ModelProto(ir_version=8, producer_name="x").SerializeToString(), "holds none"),
    "one unknown field": (b"\xa0\x06\x01", "holds none"),
}


@pytest.mark.parametrize(("content", "said"), CONTENTS.values(), ids=CONTENTS.keys())
def test_files_that_hold_no_network(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "network.onnx").write_bytes(content)
    refused(tmp_path / "network.onnx", said)


def graph(change: Callable[[GraphProto], object]) -> ModelProto:
    """The whole network with one change of its graph."""
    model = network()
    change(model.graph)
    return model


def model_with(change: Callable[[ModelProto], object]) -> ModelProto:
    """The whole network with one change."""
    model = network()
    change(model)
    return model


def clear(message: GraphProto | ModelProto, field: str) -> None:
    """Take all entries of a list away."""
    message.ClearField(field)


def set_name(held: onnx.NodeProto | TensorProto | GraphProto, text: str) -> None:
    """Give another name."""
    held.name = text


def with_node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> ModelProto:
    """The network with one more node at its end."""
    return graph(lambda g: g.node.append(helper.make_node(operator, inputs, outputs, **attributes)))


def bad_text(text: bytes) -> bytes:
    """The network with the name of a node replaced, byte by byte."""
    content = network().SerializeToString()
    assert content.count(b"/fc/MatMul") == 1
    return content.replace(b"/fc/MatMul", text.ljust(10, b"x"))


def opset(*versions: tuple[str, int]) -> ModelProto:
    """The network with these sets of operators."""
    model = network()
    clear(model, "opset_import")
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions)
    return model


def circle(g: GraphProto) -> None:
    """Two nodes take each other's values."""
    g.node[1].input[0] = "c"


def shadowed(g: GraphProto) -> None:
    """The value of a node is called as an initialiser is."""
    g.node[1].output[0] = g.node[2].input[0] = "conv.bias"


def sparse() -> ModelProto:
    """The network with an initialiser that holds the places of its numbers."""
    numbers = numpy_helper.from_array(np.ones(1, np.float32), "thin")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    return graph(lambda g: g.sparse_initializer.append(helper.make_sparse_tensor(numbers, places, [3])))


def sparse_constant() -> ModelProto:
    """The network with a node that holds the places of its numbers."""
    held = sparse().graph.sparse_initializer[0]
    return with_node("Constant", [], ["k"], sparse_value=held)


def crowd(count: int) -> bytes:
    """A part of a file that adds so many empty nodes of two bytes to its graph."""
    nodes, length = b"\x0a\x00" * count, b""
    left = len(nodes)
    while left:
        length += bytes([left % 128 + (128 if left > 127 else 0)])
        left //= 128
    return b"\x3a" + length + nodes


GRAPHS: dict[str, tuple[Callable[[], ModelProto | bytes], str]] = {
    "no opset": (lambda: opset(), "7 to 25; this one does not"),
    "opset of another domain only": (lambda: opset(("com.other", 1)), "7 to 25; this one does not"),
    "opset 0": (lambda: opset(("", 0)), "written for opset 0"),
    "opset 6": (lambda: opset(("", 6)), "opsets 7 to 25 of ONNX are read; this file is written for opset 6"),
    "opset 26": (lambda: opset(("", 26)), "written for opset 26"),
    "opset -1": (lambda: opset(("", -1)), "written for opset -1"),
    "opset 2^62": (lambda: opset(("", 2**62)), "written for opset 4611"),
    "two opsets": (lambda: opset(("", 17), ("ai.onnx", 18)), "one version; '' has 17 and 18"),
    "no version of the format": (lambda: model_with(lambda m: m.ClearField("ir_version")), "ir_version"),
    "a later version of the format": (lambda: model_with(lambda m: setattr(m, "ir_version", 999)), "ir_version"),
    "no nodes": (lambda: graph(lambda g: clear(g, "node")), "has nodes"),
    "no outputs": (lambda: graph(lambda g: clear(g, "output")), "has outputs"),
    "no inputs": (lambda: graph(lambda g: clear(g, "input")), "takes an input"),
    "no initialiser": (lambda: graph(lambda g: clear(g, "initializer")), "an initialiser is missing"),
    "one initialiser less": (lambda: graph(lambda g: g.initializer.pop(1)), "takes 'conv.bias', which nothing gives"),
    "an initialiser twice": (lambda: graph(lambda g: g.initializer.append(g.initializer[0])), "'conv.weight' is there"),
    "an input twice": (lambda: graph(lambda g: g.input.append(value("x", 1))), "'x' is there twice"),
    "an output twice": (lambda: graph(lambda g: g.output.append(value("y", 1))), "'y' is there twice"),
    "an initialiser without a name": (lambda: graph(lambda g: set_name(g.initializer[0], "")), "one has none"),
    "an input without a name": (lambda: graph(lambda g: g.input.append(value("", 1))), "one has none"),
    "an input without a type": (lambda: graph(lambda g: g.input[0].ClearField("type")), "the checker of the onnx"),
    "an output that nothing gives": (lambda: graph(lambda g: g.output.append(value("q", 1))), "nothing gives 'q'"),
    "a value made twice": (lambda: with_node("Relu", ["d"], ["b"]), "'b' is made by the node"),
    "a value made twice by one": (lambda: with_node("Split", ["d"], ["s", "s"]), "'s' is made by the node"),
    "a value that is an input": (lambda: with_node("Relu", ["d"], ["x"]), "'x' is made by the node"),
    "a value that is an initialiser": (lambda: graph(shadowed), "'conv.bias' is made by the node"),
    "a circle": (lambda: graph(circle), "in no circle; 'Relu' '/act:0' takes 'c'"),
    "a node that takes its own value": (lambda: with_node("Relu", ["r"], ["r"]), "'Relu' takes 'r'"),
    "unsorted": (lambda: graph(lambda g: g.node.append(g.node.pop(0))), "made by itself or later: sort the nodes"),
    "an unknown operator": (lambda: with_node("Convolve", ["d"], ["k"]), "'Convolve' is none of them"),
    "an operator of a later opset": (lambda: with_node("Gelu", ["d"], ["k"]), "opset 17 of ONNX; 'Gelu'"),
    "an operator that is gone": (lambda: with_node("Upsample", ["b", "conv.bias"], ["k"]), "the checker of the onnx"),
    "no operator": (lambda: with_node("", ["d"], ["k"]), "says which operator it is"),
    "a domain that is not named": (lambda: with_node("Foo", ["d"], ["k"], domain="com.foo"), "'com.foo', which it"),
    "an unknown attribute": (lambda: with_node("Relu", ["d"], ["k"], slope=1.0), "the checker of the onnx package"),
    "an attribute of another type": (lambda: with_node("Flatten", ["d"], ["k"], axis="one"), "the checker of the onnx"),
    "an attribute twice": (lambda: graph(lambda g: g.node[3].attribute.append(g.node[3].attribute[0])), "'axis' twice"),
    "a text of no UTF-8 as attribute": (lambda: with_node("Elu", ["d"], ["k"], mode=b"\xff"), "'mode' of 'Elu' is not"),
    "too many inputs": (lambda: with_node("Relu", ["d", "d"], ["k"]), "the checker of the onnx package"),
    "too few inputs": (lambda: with_node("Add", ["d"], ["k"]), "the checker of the onnx package"),
    "a sparse initialiser": (sparse, "'thin' is a sparse one"),
    "a sparse constant": (sparse_constant, "'Constant' holds a sparse one"),
    "a name of no UTF-8": (lambda: bad_text(b"\xff\xfe"), "a name of a NodeProto is not: the file is damaged"),
    "a name of half a character": (lambda: bad_text(b"\xed\xa0\x80"), "a name of a NodeProto is not"),
    "a name with a bell": (lambda: bad_text(b"a\x07"), "printable characters only"),
    "a name with a line break": (lambda: bad_text(b"a\nb"), "printable characters only"),
    "a name that ends a text of C": (lambda: bad_text(b"a\x00"), "printable characters only"),
    "a name that turns a line around": (lambda: bad_text("\u202e".encode()), "printable characters only"),
    "a long name": (lambda: graph(lambda g: set_name(g.node[0], "n" * 5000)), "at most 4,096 characters"),
    "a long name of no operator": (lambda: with_node("K" * 4000, ["d"], ["k"]), "is none of them"),
    "millions of nodes": (lambda: network().SerializeToString() + crowd(2_000_001), "at most 2,000,000 parts"),
    "deep graphs": (lambda: nested(32), "at most 32 deep"),
    "a branch takes what is not there": (
        lambda: with_tail(
            condition("z", branch("t", [helper.make_node("Neg", ["q"], ["u"])], "u"), branch("e", [], "y")),
            numpy_helper.from_array(np.array(True), "flag"),
        ),
        "'Neg' takes 'q', which nothing gives",
    ),
    "a function that calls itself": (lambda: with_functions(function("f", call("f"))), "'f' does"),
    "functions that call each other": (
        lambda: with_functions(function("f", call("g")), function("g", call("f"))),
        "functions do not call themselves",
    ),
    "functions that grow": (
        lambda: with_functions(
            *(function(f"f{n}", *(call(f"f{n + 1}", a, b) for a, b in ("pq", "pr", "ps", "pt"))) for n in range(20)),
            function("f20", helper.make_node("Relu", ["p"], ["q"])),
        ),
        "at most 1,000,000 nodes",
    ),
    "functions that go deep": (
        lambda: with_functions(
            *(function(f"f{n}", call(f"f{n + 1}")) for n in range(3000)),
            function("f3000", helper.make_node("Relu", ["p"], ["q"])),
        ),
        "stand within each other at most 32 deep",
    ),
    "a function twice": (
        lambda: with_functions(*(function("f", helper.make_node(name, ["p"], ["q"])) for name in ("Relu", "Neg"))),
        "two are alike",
    ),
    "a function of another opset": (
        lambda: with_functions(function("f", helper.make_node("Relu", ["p"], ["q"]), opset=9)),
        "written for its own set of operators|the checker of the onnx package",
    ),
    "a function of an unknown operator": (
        lambda: with_functions(function("f", helper.make_node("Rolu", ["p"], ["q"]))),
        "the checker of the onnx package",
    ),
}


@pytest.mark.parametrize(("made", "said"), GRAPHS.values(), ids=GRAPHS.keys())
def test_graphs_that_are_none(tmp_path: Path, made: Callable[[], ModelProto | bytes], said: str) -> None:
    content = made()
    (tmp_path / "network.onnx").write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    refused(tmp_path / "network.onnx", said)
