"""Weights of ONNX files that are damaged, in the file or in others that it names: each is refused in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_files import network, outside, put_outside, refused

BIAS = 1  # the place of conv.bias, whose four numbers take 16 bytes


def bias(**changes: object) -> Callable[[TensorProto], None]:
    """A change of fields of a tensor; a list is replaced, and None takes a field away."""

    def change(tensor: TensorProto) -> None:
        for field, held in changes.items():
            tensor.ClearField(field)
            if isinstance(held, list):
                getattr(tensor, field).extend(held)
            elif held is not None:
                setattr(tensor, field, held)

    return change


FLOAT16, BOOL = TensorProto.FLOAT16, TensorProto.BOOL

TENSORS: dict[str, tuple[Callable[[TensorProto], object], str]] = {
    "no data": (bias(raw_data=None), "needs 4 entries and has 0"),
    "too little": (bias(raw_data=bytes(15)), "needs 16 bytes and has 15"),
    "too much": (bias(raw_data=bytes(17)), "needs 16 bytes and has 17"),
    "data of an empty tensor": (bias(dims=[0]), "needs 0 bytes and has 16"),
    "another length": (bias(dims=[5]), "needs 20 bytes and has 16"),
    "a negative length": (bias(dims=[-4]), "0 or more; 'conv.bias' has"),
    "two negative lengths": (bias(dims=[-2, -2]), "0 or more; 'conv.bias' has"),
    "a claim of 4 GB": (bias(dims=[2**30]), r"at most 2\^31 - 1 bytes; 'conv.bias' claims"),
    "a claim of 1 GB": (bias(dims=[2**28]), "needs 1,073,741,824 bytes and has 16"),
    "a claim beyond 2^64": (bias(dims=[2**62, 2**62]), r"at most 2\^31 - 1 bytes"),
    "a claim that is 16 modulo 2^64": (bias(dims=[2**62 + 1, 4]), r"at most 2\^31 - 1 bytes"),
    "an empty tensor of huge sides": (bias(dims=[0, 2**62, 2**62], raw_data=b""), r"at most 2\^31 - 1 bytes"),
    "too many axes": (bias(dims=[1] * 65), "at most 64 axes"),
    "millions of axes": (bias(dims=[2**62] * 1_000_000), "at most 64 axes; 'conv.bias' has 1,000,000"),
    "no format": (bias(data_type=None), "'conv.bias' has number 0"),
    "an unknown format": (bias(data_type=99), "'conv.bias' has number 99"),
    "a negative format": (bias(data_type=-1), "'conv.bias' has number -1"),
    "a segment": (lambda tensor: tensor.segment.SetInParent(), "is a segment of one"),
    "another format": (bias(data_type=TensorProto.DOUBLE), "in float64, needs 32 bytes and has 16"),
    "bits of another format": (bias(data_type=TensorProto.INT4), "in int4, needs 2 bytes and has 16"),
    "texts as raw data": (bias(data_type=TensorProto.STRING), "texts stand in string_data"),
    "data twice": (bias(float_data=[1.0] * 4), "holds float_data besides raw_data"),
    "numbers in another list": (bias(raw_data=None, int64_data=[1] * 4), "in float32 holds int64_data"),
    "too few numbers": (bias(raw_data=None, float_data=[1.0] * 3), "needs 4 entries and has 3"),
    "half a complex number": (
        bias(raw_data=None, data_type=TensorProto.COMPLEX64, float_data=[1.0] * 7),
        "needs 8 entries and has 7",
    ),
    "numbers beyond 8 bits": (
        bias(raw_data=None, data_type=TensorProto.UINT8, int32_data=[0, 1, 2, 300]),
        "uint8 stand between 0 and 255",
    ),
    "bits beyond float16": (bias(raw_data=None, data_type=FLOAT16, int32_data=[-1] * 4), "between 0 and 65535"),
    "numbers beyond 32 bits": (
        bias(raw_data=None, data_type=TensorProto.UINT32, uint64_data=[2**40] * 4),
        "uint32 stand between 0 and 4294967295",
    ),
    "NaN": (bias(raw_data=np.array([0, 1, np.nan, 2], np.float32).tobytes()), "'conv.bias', a weight of 'Conv'"),
    "infinity": (bias(raw_data=None, float_data=[1.0, float("-inf"), 0.0, 0.0]), "holds NaN or infinity"),
    "NaN in float16": (
        bias(data_type=FLOAT16, raw_data=np.array([0, 1, np.nan, 2], np.float16).tobytes()),
        "NaN or infinity",
    ),
    "NaN in bfloat16": (bias(data_type=TensorProto.BFLOAT16, raw_data=b"\xc0\x7f" * 4), "NaN or infinity"),
    "another file that is not needed": (
        lambda t: t.external_data.extend([t.external_data.add(key="a")]),
        "names another",
    ),
}


@pytest.mark.parametrize(("change", "said"), TENSORS.values(), ids=TENSORS.keys())
def test_weights_that_are_damaged(tmp_path: Path, change: Callable[[TensorProto], None], said: str) -> None:
    model = network()
    change(model.graph.initializer[BIAS])
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "network.onnx", said)


def test_damage_is_found_in_constants_and_in_branches(tmp_path: Path) -> None:
    held = numpy_helper.from_array(np.ones(4, np.float32), "held")
    held.raw_data = bytes(15)
    model = network()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=held))
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "network.onnx", "'held'.* needs 16 bytes and has 15")


def test_a_constant_that_is_a_weight_is_finite(tmp_path: Path) -> None:
    model = network()
    weight = numpy_helper.to_array(model.graph.initializer.pop(2)).copy()
    weight[1, 2] = np.inf
    held = numpy_helper.from_array(weight, "held")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["fc.weight"], value=held))
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "network.onnx", "weights are finite; 'fc.weight'")


def lay_out(folder: Path) -> None:
    """Beside and above the folder of a network: a file with 16 bytes, links to it, a pipe, a folder."""
    (folder.parent / "secret.bin").write_bytes(bytes(16))
    (folder / "below").mkdir()
    (folder / "below" / "whole.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "up").symlink_to(folder.parent)
    (folder / "device.bin").symlink_to("/dev/zero")
    (folder / "around.bin").symlink_to(folder / "around.bin")
    os.mkfifo(folder / "pipe.bin")


OUTSIDE: dict[str, tuple[tuple[str | None, ...], str]] = {
    "no such file": (("absent.bin",), "cannot be read .*copy all files of the network together"),
    "no name": (("",), "has it at ''"),
    "above": (("../secret.bin",), "has it at '../secret.bin'"),
    "above, from below": (("below/../../secret.bin",), "do not trust this file"),
    "above, in the words of Windows": ((r"..\secret.bin",), "do not trust this file"),
    "absolute": (("/etc/passwd",), "has it at '/etc/passwd'"),
    "absolute, in the words of Windows": ((r"\etc\passwd",), "do not trust this file"),
    "a drive": ((r"C:\secret.bin",), "do not trust this file"),
    "a folder of a drive": (("C:secret.bin",), "do not trust this file"),
    "another machine": ((r"\\host\share\secret.bin",), "do not trust this file"),
    "another machine, with slashes": (("//host/share/secret.bin",), "do not trust this file"),
    "a name that ends a text of C": (("below/whole.bin\x00",), r"\\x00"),
    "a name that is too long for a disk": (("a" * 3000,), "cannot be read"),
    "a name over the limit": (("a" * 5000,), "do not trust this file"),
    "a link that leads out": (("link.bin",), "a link that leads out of it"),
    "a folder that leads out": (("up/secret.bin",), "a link that leads out of it"),
    "a link to a device": (("device.bin",), "a link that leads out of it"),
    "a link to itself": (("around.bin",), "cannot be read|can be followed"),
    "a pipe": (("pipe.bin",), "a folder, a device or a pipe"),
    "a folder": (("below",), "a folder, a device or a pipe"),
    "the folder": ((".",), "a folder, a device or a pipe"),
    "an offset beyond the end": (("below/whole.bin", "17", "16"), "takes 16 bytes from 17 on"),
    "a length beyond the end": (("below/whole.bin", "4", "16"), "which has 16"),
    "an offset without a length": (("below/whole.bin", "4"), "needs 16 bytes and has 12"),
    "another length than the shape": (("below/whole.bin", "0", "12"), "needs 16 bytes and has 12"),
    "a length of 2^63": (("below/whole.bin", "0", str(2**63)), "takes 9,223"),
    "an offset of 2^200": (("below/whole.bin", str(2**200), "16"), "whole number from 0 on"),
    "a negative offset": (("below/whole.bin", "-4", "16"), "the offset of data is a whole number .* says '-4'"),
    "a negative length": (("below/whole.bin", "0", "-16"), "the length of data is a whole number"),
    "an offset in words": (("below/whole.bin", "four", "16"), "says 'four'"),
    "an offset in other digits": (("below/whole.bin", "\u0664", "16"), "whole number from 0 on"),
    "an offset with a point": (("below/whole.bin", "0.0", "16"), "whole number from 0 on"),
    "no offset where one is named": (("below/whole.bin", "", "16"), "whole number from 0 on"),
}


@pytest.mark.parametrize(("place", "said"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_places_of_data_that_are_none(tmp_path: Path, place: tuple[str | None, ...], said: str) -> None:
    folder = tmp_path / "network"
    folder.mkdir()
    model = network()
    put_outside(model.graph.initializer[BIAS], *place)
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    lay_out(folder)
    refused(folder / "network.onnx", said)


SAID_OUTSIDE: dict[str, tuple[Callable[[TensorProto], object], str]] = {
    "no place": (bias(external_data=None), "has it at ''"),
    "a place twice": (lambda tensor: tensor.external_data.add(key="location", value="x"), "a part of it twice"),
    "inside as well": (bias(raw_data=bytes(16)), "has it in both"),
    "in a list as well": (bias(float_data=[0.0] * 4), "has it in both"),
    "texts": (bias(data_type=TensorProto.STRING), "texts stand inside"),
    "a shape of 1 GB": (bias(dims=[2**28]), "needs 1,073,741,824 bytes and has 16"),
    "a negative shape": (bias(dims=[-4]), "0 or more"),
    "an unknown format": (bias(data_type=77), "has number 77"),
}


@pytest.mark.parametrize(("change", "said"), SAID_OUTSIDE.values(), ids=SAID_OUTSIDE.keys())
def test_tensors_outside_that_are_damaged(tmp_path: Path, change: Callable[[TensorProto], None], said: str) -> None:
    model = outside(network(), tmp_path)
    change(model.graph.initializer[BIAS])
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "network.onnx", said)


def test_a_file_of_weights_that_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(outside(network(), tmp_path).SerializeToString())
    os.truncate(tmp_path / "weights.bin", 500)
    refused(tmp_path / "network.onnx", "data ends where its file ends; 'fc.weight'|'conv.bias'")


def test_data_that_makes_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    model = network()
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(2**30)  # no block of it is on the disk
    for number in range(3):
        model.graph.initializer.add(name=f"large{number}", dims=[2**28], data_type=TensorProto.FLOAT)
        put_outside(model.graph.initializer[-1], "large.bin", "0", str(2**30))
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "network.onnx", r"with all its data is at most 2\^31 - 1 bytes")


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "network.onnx").open("wb") as file:
        file.truncate(2**31)
    refused(tmp_path / "network.onnx", r"at most 2\^31 - 1 bytes, which is protobuf's limit; .* has 2,147,483,648")


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "there is none: check the path")
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / "folder.onnx", "this is a folder|a folder, a device or a pipe")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "a folder, a device or a pipe")
