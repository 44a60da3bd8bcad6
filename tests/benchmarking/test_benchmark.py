from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyadic.benchmarking import BenchOptions, BenchProgress, BenchResult, benchmark, write_bench
from polyadic.benchmarking.footprint import Footprints
from polyadic.engines import ENGINES, Conditions, engine_named
from polyadic.errors import EngineError, LayerError, install_hint

QUICK = BenchOptions(engines=("pytorch",), batches=(2,), threads=1, rounds=3, seconds=0.0, memory=False)


def chain(width: int) -> nn.Module:
    """``3 x width`` and ``width x 2`` convolutions of 3 x 3 on images of 8 x 8."""
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 3, padding=1))


class OnlyPython(nn.Module):
    """Its way depends on its input, so that no graph can be written of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if float(x.sum()) > -1e9 else x.flip(0)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def result(images: Tensor) -> BenchResult:
    return benchmark({"wide": chain(128), "narrow": chain(8)}, images, QUICK)


def test_networks_are_counted_and_compared_with_the_first(result: BenchResult) -> None:
    wide, narrow = result.networks
    assert (wide.macs, narrow.macs) == (64 * 9 * 5 * 128, 64 * 9 * 5 * 8)
    assert (wide.mac_reduction, narrow.mac_reduction) == (1.0, 16.0)
    assert narrow.params == 3 * 8 * 9 + 8 + 8 * 2 * 9 + 2 + 2 * 8
    assert result.input_shape == (3, 8, 8)


def test_rows_tell_medians_quartiles_and_ratios_by_round(result: BenchResult) -> None:
    wide, narrow = result.rows
    assert len(wide.samples_ms) == len(narrow.samples_ms) >= 3
    assert wide.median_ms is not None
    assert narrow.median_ms is not None
    assert narrow.low_ms is not None
    assert narrow.high_ms is not None
    assert narrow.low_ms <= narrow.median_ms <= narrow.high_ms
    ratios = sorted(a / b for a, b in zip(wide.samples_ms, narrow.samples_ms, strict=True))
    assert narrow.speed_up is not None
    assert ratios[0] <= narrow.speed_up <= ratios[-1]
    assert narrow.realised_share == pytest.approx(narrow.speed_up / 16.0)
    assert (wide.speed_up, wide.realised_share) == (1.0, None)


def test_the_answers_of_folded_networks_are_those_of_the_networks(result: BenchResult) -> None:
    assert all(row.difference is not None and row.difference < 1e-5 for row in result.rows)
    assert result.settings["folding for PyTorch"]["wide"].startswith("1 changes made")


def test_files_are_those_that_the_engine_loads(result: BenchResult, images: Tensor) -> None:
    unfolded = benchmark({"wide": chain(128)}, images, BenchOptions(**{**vars(QUICK), "fold": False}))
    numbers = sum(tensor.numel() for tensor in chain(128).state_dict().values())
    assert unfolded.rows[0].file_bytes == pytest.approx(4 * numbers, abs=2000)  # the header, 8-byte counts
    folded, plain = result.rows[0].file_bytes, unfolded.rows[0].file_bytes
    assert folded is not None
    assert plain is not None
    assert folded < plain


def test_networks_are_left_as_they_were(images: Tensor) -> None:
    network = chain(4).train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    threads = torch.get_num_threads()
    benchmark({"it": network}, images, BenchOptions(**{**vars(QUICK), "threads": 2}))
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_that_an_engine_refuses_leaves_the_others_alone(images: Tensor, engine: str) -> None:
    known = {**vars(QUICK), "engines": (engine, "pytorch"), "batches": (1,), "precisions": ("float32",)}
    options = BenchOptions(**known)
    if ENGINES[engine].missing() is not None:
        pytest.skip(f"{engine} is not installed")
    found = benchmark({"odd": OnlyPython(), "plain": chain(4)}, images, options)
    odd, plain, *on_torch = found.rows
    assert (odd.network, odd.engine, odd.median_ms, odd.samples_ms) == ("odd", engine, None, ())
    assert odd.reason is not None
    assert "onnx" in odd.reason.lower()
    assert plain.median_ms is not None
    assert plain.speed_up is None  # its measure has no time here
    assert plain.file_bytes is not None
    assert [row.reason for row in on_torch] == [None, None]
    assert on_torch[1].speed_up is not None


class FailsLater(nn.Module):
    """Runs a few times and then no more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > 8:
            raise RuntimeError("the machine ran out of something")
        return self.conv(x)


def test_what_fails_while_it_is_timed_is_a_row_with_the_reason(images: Tensor) -> None:
    options = BenchOptions(**{**vars(QUICK), "fold": False})
    (row,) = benchmark({"it": FailsLater()}, images, options).rows
    assert row.reason == "pytorch does not run this network: RuntimeError: the machine ran out of something"
    assert row.median_ms is None


def test_the_layer_that_an_engine_does_not_run_is_named_in_its_row(images: Tensor) -> None:
    pytest.importorskip("openvino")
    layer = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
    options = BenchOptions(**{**vars(QUICK), "engines": ("pytorch", "openvino")})
    rows = benchmark({"it": nn.Sequential(nn.Conv2d(3, 3, 1), layer)}, images, options).rows
    reasons = {row.engine: row.reason for row in rows}
    assert reasons["pytorch"] is None
    assert str(reasons["openvino"]).startswith(f"openvino does not run layer '1', {layer} (leave this engine out")


def test_a_compiler_that_fails_leaves_the_other_engines_alone(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*inputs: Tensor) -> Tensor:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in cxx: (None, 'g++')")

    monkeypatch.setattr(torch, "compile", lambda run, **more: fails)
    monkeypatch.setattr("polyadic.engines.eager.shutil.which", lambda name: name)
    options = BenchOptions(**{**vars(QUICK), "engines": ("torch-compile", "pytorch")})
    found = benchmark({"a": chain(4), "b": chain(2)}, images, options)
    failed, timed = found.rows[:2], found.rows[2:]
    assert all("apt-get install g++" in str(row.reason) and row.median_ms is None for row in failed)
    assert all(row.reason is None and row.median_ms for row in timed)


class SlowToBegin(nn.Module):
    """Its first pass over two samples takes long, as one that compiles does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.first = True

    def forward(self, x: Tensor) -> Tensor:
        if self.first and len(x) == 2:
            self.first = False
            time.sleep(0.3)
        return self.conv(x)


def test_what_an_engine_does_first_is_told_apart_and_not_timed(images: Tensor) -> None:
    network = SlowToBegin()
    options = BenchOptions(**{**vars(QUICK), "fold": False})
    (row,) = benchmark({"it": network}, images, options).rows
    assert row.ready_s is not None
    assert 0.3 <= row.ready_s < 30.0
    assert max(row.samples_ms) < 300.0


def test_a_network_whose_answers_are_no_numbers_is_timed(images: Tensor) -> None:
    network = chain(4)
    network.get_parameter("2.bias").data.fill_(float("nan"))
    (row,) = benchmark({"it": network}, images, QUICK).rows
    assert row.median_ms is not None
    assert row.difference is None


def test_what_is_missing_or_refused_is_named_once(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyadic.engines.open_vino.find_spec", lambda name: None)
    options = {**vars(QUICK), "engines": ("openvino", "pytorch"), "batches": (1, 2), "precisions": ("float32", "int8")}
    found = benchmark({"it": chain(4)}, images, BenchOptions(**options))
    assert [(row.engine, row.conditions.batch) for row in found.rows] == [("pytorch", 1), ("pytorch", 2)]
    assert found.skipped == (
        ("openvino", f"OpenVINO is not installed: {install_hint('openvino')}"),
        ("pytorch, cpu, int8", "it runs float32, bfloat16, float16, not int8"),
    )
    assert set(found.environment["engines"]) == {"pytorch"}


def test_without_a_compiler_the_others_are_measured(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyadic.engines.eager.shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    options = BenchOptions(**{**vars(QUICK), "engines": ("torch-compile", "pytorch-nchw")})
    found = benchmark({"it": chain(4)}, images, options)
    ((engine, reason),) = found.skipped
    assert engine == "torch-compile"
    assert "none is installed: apt-get install g++" in reason
    assert [(row.engine, row.reason) for row in found.rows] == [("pytorch-nchw", None)]


def test_progress_goes_from_nothing_to_everything(images: Tensor) -> None:
    seen: list[BenchProgress] = []
    benchmark({"a": chain(4), "b": chain(2)}, images, QUICK, seen.append)
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert seen[-1].done == seen[-1].total
    assert any("b for pytorch, batch 2, 1 thread, float32" in progress.message for progress in seen)


def test_what_cannot_be_measured_is_refused(images: Tensor) -> None:
    with pytest.raises(EngineError, match="at least one network"):
        benchmark({}, images)
    with pytest.raises(LayerError, match=r"\(1, 3, 8, 8\)"):
        benchmark({"it": nn.Conv2d(5, 1, 1)}, images, QUICK)
    wrong: list[dict[str, Any]] = [
        *({"engines": ("abacus",)}, {"engines": ()}, {"batches": ()}),
        *({"rounds": 0}, {"seconds": -1.0}),
    ]
    for one in wrong:
        with pytest.raises(EngineError, match=r"got"):
            BenchOptions(**one)
    with pytest.raises(EngineError, match=r"one thread"):
        BenchOptions(clock="process", threads=2)


def test_the_file_says_everything_and_appears_with_its_neighbours(result: BenchResult, tmp_path: Path) -> None:
    written = write_bench(result, tmp_path / "new", [("page.html", b"page")])
    assert [path.name for path in written] == ["bench.json", "page.html"]
    document = json.loads(written[0].read_text())
    assert document == json.loads(json.dumps(result.to_json()))
    assert document["version"] == 1
    assert document["rows"][1]["conditions"] == {"batch": 2, "threads": 1, "precision": "float32", "device": "cpu"}
    assert {"processor", "engines", "threads"} <= set(document["environment"])
    assert "FLOPs = 2 x MACs" in document["settings"]["macs_convention"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux alone")
def test_memory_is_that_of_weights_and_activations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_the_user.py").write_text(
        "from torch import nn\n\n\nclass Big(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = nn.Linear(2000, 4000)\n\n    def forward(self, x):\n        return self.layer(x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = __import__("of_the_user").Big()
    with Footprints() as footprints:
        few, many = (
            footprints.of(engine_named("pytorch"), network, torch.zeros(n, 2000), Conditions(n)) for n in (8, 800)
        )
        failed = footprints.of(engine_named("pytorch"), network, torch.zeros(1, 3), Conditions(1))
    weights, answers = 4 * 2000 * 4000, 4 * 800 * 4000
    assert few["memory_reason"] is None
    assert few["loaded_bytes"] == pytest.approx(weights, rel=0.15)
    assert many["loaded_bytes"] == pytest.approx(weights + 4 * 800 * 2000, rel=0.25)  # and the engine's copy of inputs
    assert many["pass_bytes"] == pytest.approx(answers, rel=0.3)
    assert few["pass_bytes"] < answers / 10
    assert "does not run this network" in str(failed["memory_reason"])
