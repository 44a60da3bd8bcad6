from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.engines import Conditions
from polyadic.quantization import Artefact, OnnxRuntimeQuantizer, QuantizeOptions, Recipe, quantize, weight_bits
from polyadic.quantization.quantizer import End

QUANTIZER = OnnxRuntimeQuantizer()
BATCHES = 4


@pytest.fixture(autouse=True)
def _installed() -> None:
    if QUANTIZER.missing():
        pytest.skip(str(QUANTIZER.missing()))


@pytest.fixture(scope="module")
def biased(network: nn.Module, batches: list[Tensor]) -> nn.Module:
    """Weights of layers behind a ReLU lie 0.4 of a step above the grid, or all below it, in turns of rows.

    Rounding moves all weights of a row alike, and inputs behind a ReLU are positive: the errors add up.
    """
    shifted = copy.deepcopy(network)
    largest = {8: 127.0, 7: 64.0}[weight_bits()]
    with torch.no_grad():
        for name in ("conv2.0", "head"):
            weight = shifted.get_submodule(name).get_parameter("weight")
            rows = weight.flatten(1)
            step = 4 * rows.abs().amax() / largest
            off_grid = (rows / step).round() + 0.4 * (-1) ** torch.arange(len(rows))[:, None]
            off_grid[:, 0] = largest  # sets the step, and lies on the grid
            weight.copy_((off_grid * step).reshape(weight.shape))
        head = shifted.get_submodule("head")
        size = shifted(batches[0]).std()
        for parameter in head.parameters():
            parameter /= size  # else the answers are certain, whatever the errors
    return shifted


@pytest.fixture(scope="module")
def batches(data: ImageData) -> list[Tensor]:
    return list(data.normalise(data.train.images(torch.arange(96))).chunk(BATCHES))


def logits(artefact: Artefact, x: Tensor) -> Tensor:
    return QUANTIZER.prepare(artefact, x, Conditions(batch=len(x))).answer(x)[0].double()


def divergence(wanted: Tensor, found: Tensor) -> float:
    p, q = wanted.double().log_softmax(1), found.log_softmax(1)
    return float((p.exp() * (p - q)).sum(1).mean())


@pytest.mark.parametrize(
    ("kept", "left", "nearer"), [((), 0.1, 0.7), (("last",), 1e-4, 0.1)]
)  # logits in 8 bits are rounded themselves
def test_means_come_back_and_the_answers_with_them(
    kept: tuple[End, ...], left: float, nearer: float, biased: nn.Module, batches: list[Tensor], data: ImageData
) -> None:
    # where the last layer is in 8 bits, its outputs are rounded behind the bias
    bench = QUANTIZER.open(biased, batches)
    plain = bench.quantize(Recipe("minmax", kept))
    corrected = bench.quantize(Recipe("minmax", kept, corrected=True))
    x, unseen = torch.cat(batches), data.normalise(data.test.images(torch.arange(60)))
    with torch.no_grad():
        wanted, fresh = biased(x), biased(unseen)
    before, after = ((logits(each, x) - wanted).mean(0).abs().max() for each in (plain, corrected))
    assert after < left * before
    assert divergence(fresh, logits(corrected, unseen)) < nearer * divergence(fresh, logits(plain, unseen))
    assert abs(corrected.bytes - plain.bytes) < 10  # other numbers, no further operation


def test_held_out_images_decide_whether_biases_are_corrected(biased: nn.Module, data: ImageData) -> None:
    found = quantize(biased, data, QUANTIZER, QuantizeOptions(images=96, batch=24, judges=48, ends=False))
    divergences = {trial.recipe: trial.verdict.divergence for trial in found.trials}
    assert len(divergences) == 2 * len(QUANTIZER.methods)
    assert found.trials[-1].recipe.corrected
    assert divergences[found.trials[-1].recipe] == min(divergences.values())


def test_a_bias_that_two_layers_share_stays(batches: list[Tensor]) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    from polyadic.quantization.bias_correction import correct_biases

    def graph(error: float, shared: bool) -> bytes:
        """Two 1 x 1 layers of one channel, the weights of the first of which are off by ``error``."""
        numbers = {"w": torch.full((1, 3, 1, 1), 1.0 + error), "v": torch.ones(1, 1, 1, 1), "b": torch.zeros(1)}
        numbers["c"] = torch.zeros(1)
        second = "b" if shared else "c"
        nodes = [
            helper.make_node("Conv", ["input", "w", "b"], ["y"], name="one"),
            helper.make_node("Conv", ["y", "v", second], ["z"], name="two"),
        ]
        shapes = ([None, 3, None, None], [None, 1, None, None])
        ends = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(("input", "z"), shapes, strict=True)
        )
        tensors = [numpy_helper.from_array(value.numpy(), name) for name, value in numbers.items()]
        made = helper.make_graph(nodes, "g", [next(ends)], [next(ends)], tensors)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        whole: bytes = model.SerializeToString()
        return whole

    def biases(model: bytes) -> dict[str, float]:
        tensors = onnx.load_from_string(model).graph.initializer
        return {each.name: float(numpy_helper.to_array(each)[0]) for each in tensors if each.name in "bc"}

    ones = [torch.ones(2, 3, 4, 4)]
    found = biases(correct_biases(graph(0.5, shared=False), graph(0.0, shared=False), ones))
    assert found == {"b": pytest.approx(-1.5), "c": pytest.approx(0.0)}  # three channels of ones, each off by 0.5
    found = biases(correct_biases(graph(0.5, shared=True), graph(0.0, shared=True), ones))
    assert found == {"b": 0.0, "c": 0.0}
