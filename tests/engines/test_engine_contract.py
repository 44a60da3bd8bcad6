"""What every engine promises, tested on all that are installed; a new engine inherits these tests by existing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import pytest
import torch
from torch import Tensor, nn

from polyadic.engines import ENGINES, Conditions, Engine, OnnxRuntime, PyTorch, engine_named, tensors_of
from polyadic.errors import EngineError

EVERYWHERE = [engine for engine in ENGINES.values() if engine.name != "torch-compile"]  # that one takes half a minute
USABLE = [engine for engine in EVERYWHERE if engine.missing() is None]


class Small(nn.Module):
    """A convolution, a batch norm that has seen images, a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class Several(Small):
    """Two inputs; outputs in a dictionary, one of them a list."""

    def forward(self, x: Tensor, y: Tensor) -> dict[str, object]:  # type: ignore[override]
        a, b = super().forward(x), super().forward(y)
        return {"sum": a + b, "both": [a, 2.0 * b]}


class Unwritable(nn.Module):
    """Its way depends on its input, which no engine but PyTorch itself follows."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1.0 if float(x.sum()) > 0 else x.flip(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small(images: Tensor) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Small()
        network.train()(3.0 * images + 1.0)
    return network


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("engine", USABLE, ids=lambda engine: engine.name)
def test_answers_are_those_of_eval_mode_and_the_model_is_left_alone(
    engine: Engine, small: nn.Module, images: Tensor
) -> None:
    small.conv.weight.requires_grad_(True)
    state = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    with torch.no_grad():
        wanted = small.eval()(images)
    small.train()
    prepared = engine.prepare(small, images, Conditions(batch=2))
    (answer,) = prepared.answer(images)
    prepared.once()
    assert answer.dtype == torch.float32
    assert torch.allclose(answer, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(prepared.answer(images.flip(0))[0], wanted, rtol=1e-2)
    assert small.training
    assert small.conv.weight.requires_grad
    assert small.conv.weight.is_contiguous()
    assert all(torch.equal(tensor, state[name]) for name, tensor in small.state_dict().items())


@pytest.mark.parametrize("engine", USABLE, ids=lambda engine: engine.name)
def test_several_inputs_and_outputs_keep_their_order(engine: Engine, images: Tensor) -> None:
    network = Several().eval()
    other = images.flip(3) - 1.0
    with torch.no_grad():
        a, b = Small.forward(network, images), Small.forward(network, other)
    found = engine.prepare(network, (images, other), Conditions(batch=2)).answer(images, other)
    for answer, wanted in zip(found, (a + b, a, 2.0 * b), strict=True):
        assert torch.allclose(answer, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", [e for e in USABLE if not isinstance(e, PyTorch)], ids=lambda engine: engine.name)
def test_a_network_that_the_engine_cannot_run_is_an_error_in_one_sentence(engine: Engine, images: Tensor) -> None:
    with pytest.raises(EngineError, match=rf"^{engine.name} does not run this network: .+$") as caught:
        engine.prepare(Unwritable(), images, Conditions(batch=2))
    assert "\n" not in str(caught.value)


REFUSED = {
    "openvino": nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
    "onnxruntime": nn.ConvTranspose2d(3, 4, 3, dilation=2, output_padding=1),  # no multiple of the stride
}


@pytest.mark.parametrize("engine", [e for e in USABLE if e.name in REFUSED], ids=lambda engine: engine.name)
def test_the_layer_that_the_engine_does_not_run_is_named(engine: Engine, images: Tensor) -> None:
    layer = REFUSED[engine.name]
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), layer).train()
    with pytest.raises(EngineError) as caught:
        engine.prepare(network, images, Conditions(batch=2))
    said = str(caught.value)
    assert said.startswith(f"{engine.name} does not run layer '2', {layer} (leave this engine out, or write that")
    assert "\n" not in said
    assert all(module.training for module in network.modules())
    assert network[1].num_batches_tracked == 0


@pytest.mark.parametrize("engine", USABLE, ids=lambda engine: engine.name)
def test_a_model_that_fails_is_an_error_in_one_sentence(engine: Engine, images: Tensor) -> None:
    with pytest.raises(EngineError, match=f"^{engine.name} does not run this network"):
        engine.prepare(nn.Conv2d(7, 1, 1), images, Conditions(batch=2))


@pytest.mark.parametrize("engine", USABLE, ids=lambda engine: engine.name)
def test_the_example_holds_the_batch_of_the_conditions(engine: Engine, small: nn.Module, images: Tensor) -> None:
    with pytest.raises(EngineError, match=r"holds 3 samples.*got \(2, 3, 6, 6\)"):
        engine.prepare(small, images, Conditions(batch=3))


@pytest.mark.parametrize("engine", USABLE, ids=lambda engine: engine.name)
def test_conditions_that_cannot_be_met_are_refused_with_a_reason(
    engine: Engine, small: nn.Module, images: Tensor
) -> None:
    impossible = Conditions(2, precision="int8") if isinstance(engine, PyTorch) else Conditions(2, precision="float16")
    assert engine.refuses(Conditions(2)) is None
    assert engine.refuses(impossible)
    with pytest.raises(EngineError, match=rf"^{engine.name}: it runs .*, not {impossible.precision}"):
        engine.prepare(small, images, impossible)
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match=f"^{engine.name}: .*(cuda|CUDA)"):
            engine.check(Conditions(2, device="cuda"))


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_usual_precisions_begin_with_float32_and_are_not_refused(engine: Engine) -> None:
    device = "cuda" if engine.name == "tensorrt" else "cpu"
    usual = engine.usual_precisions(device)
    assert usual[0] == "float32"
    if engine.missing() is None:
        assert all(engine.refuses(Conditions(precision=precision, device=device)) is None for precision in usual)


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("onnxruntime", "onnxruntime", r"pip install 'polyadic\[onnx\]'"),
        ("onnxruntime", "onnxscript", r"pip install 'polyadic\[onnx\]'"),
        ("openvino", "openvino", r"pip install 'polyadic\[openvino\]'"),
        ("openvino", "onnxscript", r"pip install 'polyadic\[openvino\]'"),
    ],
)
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(
    name: str, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def find(wanted: str, *more: str) -> ModuleSpec | None:
        return None if wanted == package else found(wanted, *more)

    for module in ("onnx_runtime", "open_vino"):
        monkeypatch.setattr(f"polyadic.engines.{module}.find_spec", find)
    with pytest.raises(EngineError, match=f"^{name}: .* is not installed: {command} "):
        engine_named(name).check(Conditions())


def test_tensorrt_names_the_packages_that_bring_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("polyadic.engines.onnx_runtime._available", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="pip install onnxruntime-gpu tensorrt"):
        OnnxRuntime(tensorrt=True).check(Conditions(device="cuda"))


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("polyadic.engines.eager.shutil.which", lambda name: None)
    with pytest.raises(
        EngineError, match=r"^torch-compile: .*C\+\+ compiler, and none is installed: apt-get install g"
    ):
        engine_named("torch-compile").check(Conditions())
    assert engine_named("pytorch").missing() is None


def test_a_compiler_of_the_user_is_the_only_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert "CXX names '/nowhere/c++', which is not there" in str(engine_named("torch-compile").missing())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "CppCompileError: C++ compile error\n\nOutput:\na.cpp:1: fatal error: Python.h: No such file\n",
            "Python.h: No such",
        ),
        ("InvalidCxxCompiler: No working C++ compiler found in cxx: (None, 'g++')\n", "it does not start"),
    ],
)
def test_a_compiler_that_fails_is_told_with_the_command_that_installs_one(
    said: str, words: str, small: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(graph: nn.Module, inputs: object) -> nn.Module:
        raise RuntimeError(said)

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **more: compile_(run, backend=fails, **more))
    monkeypatch.setattr("polyadic.engines.eager.shutil.which", lambda name: name)
    with pytest.raises(EngineError, match=r"needs a C\+\+ compiler that works.*apt-get install g\+\+") as caught:
        PyTorch(compiled=True).prepare(small, images, Conditions(batch=2))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_networks_answer_as_the_others(images: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).eval()
    with torch.no_grad():
        wanted = network(images)
    answer = engine_named("torch-compile").prepare(network, images, Conditions(batch=2)).answer(images)[0]
    assert torch.allclose(answer, wanted, rtol=1e-4, atol=1e-4)


def test_weights_are_frozen_while_the_engine_compiles_and_not_afterwards(
    small: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []

    def backend(graph: nn.Module, inputs: object) -> nn.Module:
        frozen.append(torch._inductor.config.freezing)
        return graph

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **more: compile_(run, backend=backend, **more))
    answer = PyTorch(compiled=True).prepare(small, images, Conditions(batch=2)).answer(images)
    assert frozen == [True]
    assert not torch._inductor.config.freezing
    torch.testing.assert_close(answer, PyTorch().prepare(small, images, Conditions(batch=2)).answer(images))


def test_every_network_of_a_class_is_compiled(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def backend(graph: nn.Module, inputs: object) -> nn.Module:
        compiled.append(graph)
        return graph

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **more: compile_(run, backend=backend, **more))
    for width in range(1, 13):  # torch gives up on one piece of code after the eighth time
        network = nn.Sequential(nn.Flatten(), nn.Linear(108, width))
        PyTorch(compiled=True).prepare(network, images, Conditions(batch=2)).once()
    assert len(compiled) == 12


def test_lower_precision_is_another_answer(small: nn.Module, images: Tensor) -> None:
    exact = PyTorch().prepare(small, images, Conditions(2)).answer(images)[0]
    rounded = PyTorch().prepare(small, images, Conditions(2, precision="bfloat16")).answer(images)[0]
    assert 1e-5 < float((exact - rounded).abs().max()) < 0.1


def test_an_engine_has_a_name_of_its_own() -> None:
    assert all(engine_named(name).name == name for name in ENGINES)
    with pytest.raises(EngineError, match=r"an engine is one of pytorch, .*; got 'abacus'"):
        engine_named("abacus")


@pytest.mark.parametrize(
    "wrong",
    [{"batch": 0}, {"threads": 0}, {"precision": "float64"}, {"device": "tpu"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_conditions_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(EngineError, match=str(next(iter(wrong.values())))):
        Conditions(**wrong)  # type: ignore[arg-type]


def test_tensors_are_found_in_any_nest() -> None:
    a, b, c = (torch.full((1,), float(n)) for n in range(3))
    assert tensors_of({"x": [a, None, "words"], "y": (b, {"z": c})}) == (a, b, c)
    assert tensors_of(None) == ()
