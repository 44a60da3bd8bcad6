"""Small ONNX files: a whole one with a convolution and a fully connected layer, and what others are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from polyadic.errors import DataError
from polyadic.onnx.source import read_onnx

Array = NDArray[Any]


def weights() -> dict[str, Array]:
    """The initialisers of :func:`network`, by name."""
    draw = np.random.default_rng(0)
    shapes = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (4, 5)}
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def value(name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A value with its shape."""
    return helper.make_tensor_value_info(name, dtype, shape)


def layers() -> list[NodeProto]:
    """The nodes of :func:`network`: Conv, Relu, GlobalAveragePool, Flatten, Gemm."""
    return [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["a"], name="/conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="/act:0"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"], axis=1),
        helper.make_node("MatMul", ["d", "fc.weight"], ["y"], name="/fc/MatMul"),
    ]


def network(opset: int = 17, dtype: Any = np.float32) -> ModelProto:
    """A whole network from (n, 3, 8, 8) to (n, 5)."""
    held = [numpy_helper.from_array(array.astype(dtype), name) for name, array in weights().items()]
    code = held[0].data_type
    graph = helper.make_graph(
        layers(), "small", [value("x", "n", 3, 8, 8, dtype=code)], [value("y", "n", 5, dtype=code)], held
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def branch(name: str, nodes: Sequence[NodeProto], output: str) -> GraphProto:
    """A graph within a node."""
    return helper.make_graph(list(nodes), name, [], [value(output, "n", 5)])


def condition(name: str, then: GraphProto, otherwise: GraphProto) -> NodeProto:
    """A node If, whose condition is the initialiser ``flag``."""
    return helper.make_node("If", ["flag"], [name], then_branch=then, else_branch=otherwise)


def nested(depth: int) -> ModelProto:
    """A network whose output is made within so many branches."""
    inner = branch("leaf", [helper.make_node("Identity", ["y"], ["leaf"])], "leaf")
    for level in range(depth - 1):
        other = branch("other", [helper.make_node("Neg", ["y"], [f"n{level}"])], f"n{level}")
        inner = branch(f"level{level}", [condition(f"i{level}", inner, other)], f"i{level}")
    other = branch("other", [helper.make_node("Neg", ["y"], ["n"])], "n")
    return with_tail(condition("z", inner, other), numpy_helper.from_array(np.array(True), "flag"))


def with_tail(node: NodeProto, *held: TensorProto) -> ModelProto:
    """The network with one more node, which gives the output ``z``."""
    model = network()
    model.graph.node.append(node)
    model.graph.initializer.extend(held)
    model.graph.output[0].name = "z"
    return model


FUNCTION_SETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def function(name: str, *nodes: NodeProto, opset: int = 17) -> FunctionProto:
    """A function of the file's own from ``p`` to ``q``."""
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["p"], ["q"], list(nodes), sets)


def call(name: str, source: str = "p", target: str = "q") -> NodeProto:
    """A call of a function of the file's own."""
    return helper.make_node(name, [source], [target], domain="own")


def with_functions(*functions: FunctionProto) -> ModelProto:
    """The network, whose output goes through the first of these."""
    model = with_tail(call(functions[0].name, "y", "z"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend(functions)
    return model


def outside(model: ModelProto, folder: Path, *, one_file: bool = True) -> ModelProto:
    """The same network with the numbers of its initialisers in other files, each beginning at a multiple of 64."""
    moved = ModelProto()
    moved.CopyFrom(model)
    for tensor in moved.graph.initializer:
        place = folder / ("weights.bin" if one_file else f"{tensor.name}.bin")
        offset = -(-(place.stat().st_size if place.exists() else 0) // 64) * 64
        with place.open("ab") as file:
            file.truncate(offset)
            file.write(tensor.raw_data)
        put_outside(tensor, place.name, str(offset), str(len(tensor.raw_data)))
    return moved


def put_outside(tensor: TensorProto, location: str, offset: str | None = None, length: str | None = None) -> None:
    """Let a tensor say that its data is elsewhere."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, text in (("location", location), ("offset", offset), ("length", length)):
        if text is not None:
            tensor.external_data.add(key=key, value=text)


def refused(path: Path, said: str) -> None:
    """Check that a file is refused in one short sentence that holds ``said``, and that its folder is as it was."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError, match=said) as caught:
        read_onnx(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}' cannot be read as an ONNX file: ")
    assert "\n" not in message
    assert message.isprintable()
    assert "Traceback" not in message
    assert len(message.replace(str(path), "network.onnx")) < 400
    assert sorted(path.parent.rglob("*")) == before
