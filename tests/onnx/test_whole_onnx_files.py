"""Whole ONNX files are read as they are, wherever their numbers stand; damaged at random, they are read or refused."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from small_files import call, function, nested, network, outside, value, weights, with_functions, with_tail

from polyadic.errors import DataError
from polyadic.onnx.source import OPSETS, read_onnx
from polyadic.onnx.tensor_data import array_of

ROOT = Path(__file__).parents[2]


def read(folder: Path, model: ModelProto) -> ModelProto:
    """What comes of a file with this model; the folder is as it was."""
    path = folder / "network.onnx"
    path.write_bytes(model.SerializeToString())
    before = sorted(folder.rglob("*"))
    found = read_onnx(path)
    assert sorted(folder.rglob("*")) == before
    return found


def outputs(model: ModelProto) -> list[np.ndarray]:
    """What the reference of the standard computes of the same images."""
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"x": x})


def assert_holds(model: ModelProto, expected: dict[str, np.ndarray]) -> None:
    """Fail unless the initialisers are these, and have their data inside."""
    assert [tensor.name for tensor in model.graph.initializer] == list(expected)
    for tensor in model.graph.initializer:
        assert tensor.data_location == TensorProto.DEFAULT
        assert not tensor.external_data
        assert np.array_equal(array_of(tensor), expected[tensor.name])


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(tmp_path: Path, opset: int) -> None:
    model = network(opset)
    assert read(tmp_path, model) == model


@pytest.mark.parametrize("one_file", [True, False])
def test_numbers_in_other_files_come_inside(tmp_path: Path, one_file: bool) -> None:
    found = read(tmp_path, outside(network(), tmp_path, one_file=one_file))
    assert found == network()
    assert_holds(found, weights())


def test_tensors_may_share_their_bytes(tmp_path: Path) -> None:
    model = outside(network(), tmp_path)
    shared = model.graph.initializer.add()
    shared.CopyFrom(model.graph.initializer[0])
    shared.name = "shared"
    assert_holds(read(tmp_path, model), {**weights(), "shared": weights()["conv.weight"]})


def test_other_files_below_the_folder_and_links_within_it(tmp_path: Path) -> None:
    model = outside(network(), tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "below" / "data.bin")
    (tmp_path / "weights.bin").symlink_to(Path("below") / "data.bin")
    assert_holds(read(tmp_path, model), weights())


def test_a_length_that_is_left_out_is_the_rest_of_the_file(tmp_path: Path) -> None:
    model = outside(network(), tmp_path, one_file=False)
    for tensor in model.graph.initializer:
        del tensor.external_data[1:]
    assert_holds(read(tmp_path, model), weights())


def test_float16(tmp_path: Path) -> None:
    found = read(tmp_path, network(dtype=np.float16))
    assert_holds(found, {name: array.astype(np.float16) for name, array in weights().items()})


def test_weights_of_constants(tmp_path: Path) -> None:
    model = network()
    for tensor in reversed(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    assert read(tmp_path, model) == model


def test_numbers_of_constants_in_other_files(tmp_path: Path) -> None:
    moved = outside(network(), tmp_path)
    for tensor in reversed(moved.graph.initializer):
        moved.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del moved.graph.initializer[:]
    held = [array_of(node.attribute[0].t) for node in read(tmp_path, moved).graph.node[:3]]
    assert all(np.array_equal(a, b) for a, b in zip(held, weights().values(), strict=True))


def test_initialisers_that_are_inputs_too(tmp_path: Path) -> None:
    model = network(8)
    model.ir_version = 3
    model.graph.input.extend(value(name, *array.shape) for name, array in weights().items())
    assert read(tmp_path, model) == model


def test_an_output_without_a_shape(tmp_path: Path) -> None:
    model = network()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert read(tmp_path, model) == model


def test_the_other_name_of_the_standard_set(tmp_path: Path) -> None:
    model = network()
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    assert read(tmp_path, model) == network()


def test_operators_of_another_domain(tmp_path: Path) -> None:
    model = with_tail(helper.make_node("Twist", ["y"], ["z"], domain="com.other", turns=b"\xff"))
    model.opset_import.append(helper.make_opsetid("com.other", 3))
    assert read(tmp_path, model) == model


@pytest.mark.parametrize("depth", [1, 30])
def test_branches(tmp_path: Path, depth: int) -> None:
    assert read(tmp_path, nested(depth)) == nested(depth)


def test_names_in_other_letters_and_texts_over_several_lines(tmp_path: Path) -> None:
    model = network()
    model.graph.node[0].name = "/слой.1/conv:0 [名]"
    model.graph.node[0].doc_string = "one\n\ttwo"
    model.metadata_props.add(key="trace", value="one\ntwo\x00")
    assert read(tmp_path, model) == model


def test_infinity_that_is_no_weight(tmp_path: Path) -> None:
    mask = numpy_helper.from_array(np.array([0, -np.inf, 0, 0, 0], np.float32), "mask")
    model = with_tail(helper.make_node("Add", ["y", "mask"], ["z"]), mask)
    assert read(tmp_path, model) == model


def test_functions_are_replaced_by_their_nodes(tmp_path: Path) -> None:
    inner = function("g", helper.make_node("Neg", ["p"], ["q"]))
    outer = function("f", call("g", "p", "r"), helper.make_node("Exp", ["r"], ["q"]))
    unused = function("h", helper.make_node("Abs", ["p"], ["q"]))
    model = with_functions(outer, inner, unused)
    found = read(tmp_path, model)
    assert not found.functions
    assert [node.op_type for node in found.graph.node][-2:] == ["Neg", "Exp"]
    assert np.allclose(outputs(found)[0], np.exp(-outputs(network())[0]))


def test_functions_in_branches(tmp_path: Path) -> None:
    model = nested(2)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function("f", helper.make_node("Neg", ["p"], ["q"])))
    then = model.graph.node[-1].attribute[1].g.node[0].attribute[1].g
    then.node[0].CopyFrom(call("f", "y", "leaf"))
    found = read(tmp_path, model)
    assert not found.functions
    assert np.allclose(outputs(found)[0], -outputs(network())[0])


def examples(folder: Path) -> list[ModelProto]:
    """Whole files of several kinds, to be turned around; the numbers of one are in another file."""
    inner = function("g", helper.make_node("Neg", ["p"], ["q"]))
    outer = function("f", call("g", "p", "r"), helper.make_node("Exp", ["r"], ["q"]))
    return [network(), network(dtype=np.float16), outside(network(), folder), nested(3), with_functions(outer, inner)]


def overwritten(content: bytes, rng: random.Random) -> bytes:
    """The same with one byte replaced, by any other or by one of elsewhere."""
    at, other = rng.randrange(len(content) or 1), rng.randrange(len(content) or 1)
    byte = content[other] if content and rng.random() < 0.5 else rng.randrange(256)
    return content[:at] + bytes([byte]) + content[at + 1 :]


@pytest.mark.parametrize("kind", range(5))
def test_files_that_were_turned_around_are_read_or_refused(tmp_path: Path, kind: int) -> None:
    turn = runpy.run_path(str(ROOT / "benchmarks" / "fuzz.py"))["turn_bytes"]
    whole = examples(tmp_path)[kind].SerializeToString()
    path, came = tmp_path / "network.onnx", {"read": 0, "refused": 0}
    said: list[str] = []
    for seed in range(80):
        rng = random.Random(f"{kind} {seed}")
        content = whole
        for _ in range(rng.choice((1, 1, 2, 4))):  # bytes in the place of others get past protobuf more often
            content = turn(content, rng) if rng.random() < 0.3 else overwritten(content, rng)
        path.write_bytes(content)
        try:
            found = read_onnx(path)
        except DataError as error:
            came["refused"] += 1
            said.append(str(error).replace(str(path), "network.onnx"))
        else:
            came["read"] += 1
            for tensor in found.graph.initializer:
                array_of(tensor)
    assert all(came.values())
    assert all(message.isprintable() and len(message) < 400 for message in said)
