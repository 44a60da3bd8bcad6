from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import normal, resnet20, sound, two_outputs
from torch import Tensor, nn

from disks import files_in, refuse_syncs
from polyadic.engines import OnnxRuntime
from polyadic.errors import EngineError, StorageError
from polyadic.export import FILE_FORMATS, ExportedFile, export_network
from polyadic.layers import TTLayer

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")

MARK = (0.123456789, -7.654321, 3.1415927)
"""Numbers of the inputs that are compared on; no file may hold them."""


@dataclass(frozen=True)
class Case:
    """A network that was written in all formats."""

    model: nn.Module
    inputs: Tensor
    folder: Path
    files: dict[str, ExportedFile]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet20": (resnet20, (3, 32, 32)),
    "two outputs": (two_outputs, (3, 9, 9)),
    "sound": (sound, (2, 50)),
}


@pytest.fixture(scope="module", params=[pytest.param("resnet20", marks=pytest.mark.slow), "two outputs", "sound"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    build, shape = NETWORKS[request.param]
    model, inputs, folder = build(), normal(3, *shape), tmp_path_factory.mktemp("exported")
    inputs.view(-1)[: len(MARK)] = torch.tensor(MARK)
    paths = {name: folder / f"net{target.suffixes[0]}" for name, target in FILE_FORMATS.items()}
    files = export_network(model, paths, inputs, notes={"polyadic.version": "7.8", "polyadic.origin": "a test"})
    return Case(model, inputs, folder, {file.target: file for file in files})


def in_onnxruntime(path: Path, x: Tensor) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": x.numpy()}), strict=True))


def in_openvino(path: Path, x: Tensor) -> dict[str, Any]:
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = compiled({"input": x.numpy()})
    return {output.any_name: answers[output] for output in compiled.outputs}


def wanted(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        y = model(x)
    return y if isinstance(y, dict) else {"output": y}


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("suffix", "run"), [(".onnx", in_onnxruntime), (".xml", in_openvino)], ids=["onnx", "openvino"]
)
def test_files_answer_as_the_network_does_at_any_batch(case: Case, suffix: str, run: Any, batch: int) -> None:
    x = normal(batch, *case.inputs.shape[1:])
    expected, got = wanted(case.model, x), run(case.folder / f"net{suffix}", x)
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        largest = float(tensor.abs().max())
        torch.testing.assert_close(torch.from_numpy(got[name]), tensor, rtol=0.0, atol=2e-5 * largest)


WITHOUT_POLYADIC = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "polyadic":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
try:
    import polyadic
except ModuleNotFoundError:
    program = torch.export.load(sys.argv[1]).module()
    torch.save([program(torch.load(sys.argv[2])[:n]) for n in (1, 3)], sys.argv[3])
"""


def test_a_program_runs_where_polyadic_cannot_be_imported(case: Case, tmp_path: Path) -> None:
    torch.save(case.inputs, tmp_path / "x")
    command = [sys.executable, "-I", "-W", "ignore", "-c", WITHOUT_POLYADIC]
    files = [str(case.folder / "net.pt2"), str(tmp_path / "x"), str(tmp_path / "y")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for n, answer in zip((1, 3), torch.load(tmp_path / "y"), strict=True):
        got = answer if isinstance(answer, dict) else {"output": answer}
        for name, tensor in wanted(case.model, case.inputs[:n]).items():
            torch.testing.assert_close(got[name], tensor, rtol=0.0, atol=1e-5 * float(tensor.abs().max()))


def test_a_program_holds_torchs_own_operators_alone(case: Case) -> None:
    program = torch.export.load(case.folder / "net.pt2")
    called = {node.target for node in program.graph.nodes if node.op == "call_function"}
    overloads = {target for target in called if isinstance(target, torch._ops.OpOverload)}
    assert {target.namespace for target in overloads} == {"aten"}
    # the others reckon with the number of samples
    assert {getattr(target, "__module__", "") for target in called - overloads} <= {"_operator", "math"}


def test_files_say_what_they_are(case: Case) -> None:
    told = {entry.key: entry.value for entry in onnx.load(case.folder / "net.onnx").metadata_props}
    assert told == {"polyadic.version": "7.8", "polyadic.origin": "a test"}
    read = openvino.Core().read_model(str(case.folder / "net.xml"))
    assert read.get_rt_info(["polyadic", "origin"]).astype(str) == "a test"
    extra = {"polyadic.json": ""}
    torch.export.load(case.folder / "net.pt2", extra_files=extra)
    assert json.loads(extra["polyadic.json"]) == told


def test_files_hold_neither_the_images_nor_paths_of_this_machine(case: Case) -> None:
    places = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
    for path in case.folder.iterdir():
        content = path.read_bytes()
        assert struct.pack("3f", *MARK) not in content, path
        assert not any(place.encode() in content for place in places), path


def test_the_record_says_how_every_file_compares(case: Case) -> None:
    document = json.loads((case.folder / "export.json").read_text())
    assert set(document["files"]) == {"net.onnx", "net.xml", "net.pt2"}
    for name, entry in document["files"].items():
        assert [row["batch"] for row in entry["comparisons"]] == [1, 3]
        assert all(0.0 <= row["relative"] <= 1e-5 and row["top1_agreement"] == 1.0 for row in entry["comparisons"])
        assert entry["inputs"] == {"input": ["batch", *case.inputs.shape[1:]]}
        assert list(entry["outputs"]) == list(wanted(case.model, case.inputs))
        assert entry["compared_on"] == "random normal numbers"
        sizes = [(case.folder / file).stat().st_size for file in entry["sha256"]]
        assert entry["bytes"] == sum(sizes), name


def test_batch_norms_are_folded_by_who_runs_the_file(case: Case, tmp_path: Path) -> None:
    # Torch's exporter folds those behind plain layers; behind a train that runs densely the runtime does, once the
    # train's kernel is a constant. Behind one that runs by cores there is no kernel to fold into.
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(case.folder / "net.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    trains = [module.spec for module in case.model.modules() if isinstance(module, TTLayer)]
    assert kinds.count("BatchNormalization") <= sum("cores" in (spec.way, spec.cheaper) for spec in trains)


class Otherwise(nn.Module):
    """A network that answers otherwise once it is captured."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y * self.factor if torch.compiler.is_compiling() else y


class Bessel(nn.Module):
    """Torch runs it and ONNX has no name for it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class FixedBatch(nn.Module):
    """It takes two samples and no other number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 2, 2).sum(0)


def test_a_file_that_answers_otherwise_does_not_appear(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    export_network(Otherwise(1 + 5e-5), {"pt2": path}, normal(2, 4))  # within rounding
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(EngineError, match=r"at most 0\.0001 .* differs by 2\.0e-03 at batch 1: nothing was written"):
        export_network(Otherwise(1.002), {"pt2": path}, normal(2, 4))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_all_files_appear_or_none(tmp_path: Path) -> None:
    both = {"pt2": tmp_path / "net.pt2", "onnx": tmp_path / "net.onnx"}
    with pytest.raises(EngineError, match="onnx does not take this network"):
        export_network(Bessel(), both, normal(2, 4))
    assert files_in(tmp_path) == set()
    export_network(Bessel(), {"pt2": tmp_path / "net.pt2"}, normal(2, 4))
    assert files_in(tmp_path) == {"net.pt2", "export.json"}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_syncs(monkeypatch, after=1)
    with pytest.raises(StorageError, match="free disk space"):
        export_network(nn.Linear(4, 3), {"pt2": tmp_path / "net.pt2"}, normal(2, 4))
    assert files_in(tmp_path) == set()


def test_the_record_keeps_other_files_that_are_still_there(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        export_network(nn.Linear(4, 3), {"pt2": tmp_path / f"{name}.pt2"}, normal(2, 4), real=True)
        (tmp_path / "a.pt2").unlink(missing_ok=True)
    document = json.loads((tmp_path / "export.json").read_text())
    assert list(document["files"]) == ["b.pt2", "c.pt2"]
    assert document["files"]["b.pt2"]["compared_on"] == "data"


def test_several_inputs_have_numbered_names(tmp_path: Path) -> None:
    export_network(nn.Bilinear(4, 3, 2), {"onnx": tmp_path / "net.onnx"}, (normal(2, 4), normal(2, 3)))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["input_0", "input_1"]


def test_the_model_is_left_as_it_was_and_other_numbers_become_float32(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).double().train()
    export_network(model, {"pt2": tmp_path / "net.pt2"}, normal(2, 4).double())
    assert model.training
    assert model[0].weight.dtype == torch.float64
    assert model[0].weight.requires_grad
    assert torch.export.load(tmp_path / "net.pt2").module()(normal(3, 4)).dtype == torch.float32


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"one of onnx, openvino, pt2; got 'tflite'"):
        export_network(nn.Linear(4, 3), {"tflite": tmp_path / "net"}, normal(2, 4))
    with pytest.raises(EngineError, match=r"the file of onnx ends in \.onnx; got .*net\.pt2"):
        export_network(nn.Linear(4, 3), {"onnx": tmp_path / "net.pt2"}, normal(2, 4))
    with pytest.raises(EngineError, match="pt2 does not take this network"):
        export_network(FixedBatch(), {"pt2": tmp_path / "net.pt2"}, normal(2, 4))
    monkeypatch.setattr(OnnxRuntime, "missing", lambda _: "gone: pip install 'polyadic[onnx]'")
    with pytest.raises(EngineError, match=r"onnx: gone: pip install 'polyadic\[onnx\]'"):
        export_network(nn.Linear(4, 3), {"onnx": tmp_path / "net.onnx"}, normal(2, 4))
    assert files_in(tmp_path) == set()


def test_operators_of_other_libraries_are_refused(tmp_path: Path) -> None:
    @torch.library.custom_op("polyadic_tests::halved", mutates_args=())
    def halved(x: Tensor) -> Tensor:
        return x / 2

    halved.register_fake(torch.empty_like)

    class Foreign(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return halved(x)

    with pytest.raises(EngineError, match=r"torch's own operators.*polyadic_tests\.halved"):
        export_network(Foreign(), {"pt2": tmp_path / "net.pt2"}, normal(2, 4))


def test_the_layer_that_an_engine_does_not_take_is_named(tmp_path: Path) -> None:
    circular = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"))
    words = r"openvino does not take layer '1', Conv2d\(3, 4, .*padding_mode=circular\).*Unsupported padding mode"
    with pytest.raises(EngineError, match=words):
        export_network(circular, {"openvino": tmp_path / "net.xml"}, normal(2, 3, 6, 6))
    padded = nn.Sequential(nn.ConvTranspose2d(3, 4, 3, dilation=2, output_padding=1))
    words = r"onnx does not take layer '0', ConvTranspose2d\(.*output_padding=\(1, 1\).*: .*output_padding .* stride"
    with pytest.raises(EngineError, match=words):
        export_network(padded, {"onnx": tmp_path / "net.onnx"}, normal(2, 3, 6, 6))
    assert files_in(tmp_path) == set()
