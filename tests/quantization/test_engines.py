from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from polyadic.data import ImageData
from polyadic.engines import Conditions, OnnxRuntime, onnx_bytes
from polyadic.quantization import (
    OnnxRuntimeQuantizer,
    OpenVinoQuantizer,
    QuantizerSession,
    Recipe,
    onnx_runtime,
    slim_graph,
    weight_bits,
)

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))


QUANTIZERS = {quantizer.name: quantizer for quantizer in (OnnxRuntimeQuantizer(), OpenVinoQuantizer())}


@pytest.fixture(scope="module")
def benches(network: nn.Module, data: ImageData) -> Callable[[str], QuantizerSession]:
    """The network on each engine, written once."""
    batches = list(data.normalise(data.train.images(torch.arange(64))).split(32))
    open_ones: dict[str, QuantizerSession] = {}

    def bench(name: str) -> QuantizerSession:
        if QUANTIZERS[name].missing():
            pytest.skip(str(QUANTIZERS[name].missing()))
        if name not in open_ones:
            open_ones[name] = QUANTIZERS[name].open(network, batches)
        return open_ones[name]

    return bench


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_eight_bits_answer_nearly_as_the_network(
    name: str, benches: Callable[[str], QuantizerSession], network: nn.Module, data: ImageData
) -> None:
    quantizer, bench = QUANTIZERS[name], benches(name)
    x = data.normalise(data.test.images(torch.arange(30)))
    with torch.no_grad():
        wanted = network(x)
    plain, rounded = bench.write_float(), bench.quantize(Recipe(quantizer.methods[0]))
    answers = {}
    for kind, artefact in (("plain", plain), ("rounded", rounded)):
        answers[kind] = quantizer.prepare(artefact, x, Conditions(batch=30)).answer(x)[0]
    torch.testing.assert_close(answers["plain"], wanted, rtol=1e-4, atol=1e-4)
    error = (answers["rounded"] - wanted).norm() / wanted.norm()
    assert 1e-5 < error < 0.1  # rounded, and not by much
    kept = bench.quantize(Recipe(quantizer.methods[0], ("first", "last")))
    nearer = quantizer.prepare(kept, x, Conditions(batch=30)).answer(x)[0]
    assert not torch.equal(nearer, answers["rounded"])


def test_weights_are_stored_once_in_eight_bits(benches: Callable[[str], QuantizerSession], network: nn.Module) -> None:
    artefact = benches("onnxruntime").quantize(Recipe("minmax"))
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(artefact.files[".onnx"]).graph
    sizes: dict[int, int] = {}
    for tensor in graph.initializer:
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + onnx.numpy_helper.to_array(tensor).size
    weights = sum(p.numel() for name, p in network.named_parameters() if p.ndim > 1)
    rows = sum(len(p) for name, p in network.named_parameters() if p.ndim > 1)
    activations = 2 * sum(node.op_type == "QuantizeLinear" for node in graph.node)
    assert weights <= sizes[onnx.TensorProto.INT8] <= weights + rows + activations
    assert sizes[onnx.TensorProto.FLOAT] <= 2 * rows + activations  # scales of weights, of biases and of activations


@pytest.mark.parametrize(("bits", "largest"), [(7, 64), (8, 127)])
def test_weights_leave_room_where_the_processor_cuts_sums_off(
    bits: int,
    largest: int,
    benches: Callable[[str], QuantizerSession],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = benches("onnxruntime")
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_runtime, "weight_bits", lambda: bits)
    graph = onnx.load_from_string(bench.quantize(Recipe("minmax")).files[".onnx"]).graph
    weights = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert max(abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() for tensor in weights) == largest


@pytest.mark.parametrize(
    ("machine", "has_vnni", "bits"), [("x86_64", False, 7), ("x86_64", True, 8), ("arm64", False, 8)]
)
def test_old_processors_of_the_x86_family_take_seven_bits(
    machine: str, has_vnni: bool, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: has_vnni)
    assert weight_bits() == bits


def test_a_slim_graph_computes_the_same_bits(network: nn.Module) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    graph = onnx_bytes(network, (X,))
    slim = slim_graph(graph)
    assert len(slim) < 0.7 * len(graph)
    runs = [OnnxRuntime().prepare_graph(each, (X,), Conditions(batch=4)).answer(X)[0] for each in (graph, slim)]
    assert torch.equal(*runs)
    before, after = onnx.load_from_string(graph).graph, onnx.load_from_string(slim).graph
    assert [entry.name for entry in after.input] == [entry.name for entry in before.input]
    assert [entry.name for entry in after.output] == [entry.name for entry in before.output]
    assert [node.op_type for node in after.node] == [node.op_type for node in before.node]
    assert slim_graph(slim) == slim
