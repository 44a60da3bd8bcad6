"""Graphs that are written from integers say what torch's own layers say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polyadic.engines import Conditions, OnnxRuntime
from polyadic.engines.onnx_graph import chain_graph, input_shape, is_writable
from polyadic.errors import EngineError
from polyadic.formats import format_named
from polyadic.layers import empty_chain
from polyadic.schema import ConvSpec, Stage

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CASES = {
    "strided, dilated, grouped": (ConvSpec(6, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=2, bias=True), (9, 8)),
    "same": (ConvSpec(6, 8, (3, 5), (1, 1), "same", (1, 2)), (9, 8)),
    "same, even window": (ConvSpec(6, 8, (4,), (1,), "same", (1,)), (9,)),
    "one axis, transposed": (
        ConvSpec(6, 4, (3,), (2,), (0,), (1,), transposed=True, output_padding=(1,), bias=True),
        (7,),
    ),
    "three axes": (ConvSpec(4, 6, (1, 2, 3), (1, 2, 1), (0, 1, 2), (1, 1, 1)), (4, 5, 6)),
    "fully connected": (ConvSpec(5, 7, bias=True), ()),
    "fully connected, many positions": (ConvSpec(5, 7, bias=True), (3,)),
}


def of_torch(stages: tuple[Stage, ...], graph: bytes, x: Tensor) -> Tensor:
    """The chain in torch, with the weights that the graph holds, between two ReLUs."""
    model = onnx.load_model_from_string(graph)
    onnx.checker.check_model(model)
    arrays = {w.name: torch.from_numpy(onnx.numpy_helper.to_array(w).copy()) for w in model.graph.initializer}
    chain = empty_chain(stages, torch.empty(0))
    operations = [node for node in model.graph.node if any(name in arrays for name in node.input)]
    layers = list(chain)
    with torch.no_grad():
        for node in operations:
            weights = [arrays[name] for name in node.input if name in arrays]
            if node.op_type == "Add":
                layers[0].get_parameter("bias").copy_(weights[0])
                continue
            layer = layers[0]
            layer.get_parameter("weight").copy_(weights[0].T if node.op_type == "MatMul" else weights[0])
            if len(weights) > 1:
                layer.get_parameter("bias").copy_(weights[1])
            if node.op_type != "MatMul" or layer.bias is None:
                layers.pop(0)
        return torch.relu(chain(torch.relu(x)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("spec", "size"), CASES.values(), ids=CASES)
def test_one_layer(spec: ConvSpec, size: tuple[int, ...]) -> None:
    graph = chain_graph([(spec,)], 2, size)
    x = torch.randn(input_shape((spec,), 2, size), generator=torch.Generator().manual_seed(0))
    (answer,) = OnnxRuntime().prepare_graph(graph, (x,), Conditions(batch=2)).answer(x)
    torch.testing.assert_close(answer, of_torch((spec,), graph, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tucker2", "cp-epc", "spatial-svd"])
def test_the_chain_of_a_format(name: str) -> None:
    spec = ConvSpec(6, 8, (3, 3), (2, 1), (1, 1), (1, 1), bias=True)
    fmt = format_named(name)
    stages = fmt.stages(spec, tuple(min(3, most) for most in fmt.largest_rank(spec)))
    assert is_writable(stages)
    graph = chain_graph([stages], 1, (8, 7))
    x = torch.randn(input_shape(stages, 1, (8, 7)), generator=torch.Generator().manual_seed(0))
    (answer,) = OnnxRuntime().prepare_graph(graph, (x,), Conditions()).answer(x)
    torch.testing.assert_close(answer, of_torch(stages, graph, x), atol=1e-5, rtol=1e-5)


def test_what_is_no_plain_layer_padded_with_zeros_is_refused() -> None:
    circular = replace(CASES["same"][0], padding=(1, 2), padding_mode="circular")
    train = format_named("tt-matrix").stages(ConvSpec(16, 16), format_named("tt-matrix").largest_rank(ConvSpec(16, 16)))
    for stages in ((circular,), train):
        assert not is_writable(stages)
        with pytest.raises(EngineError, match="written as a graph where its stages are plain layers"):
            chain_graph([stages], 1, (9, 8))
