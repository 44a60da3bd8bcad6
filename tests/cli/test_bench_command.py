from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import Result
from stage import World, assert_refused, last_json, run

QUICK = ("--engines", "pytorch,pytorch-nchw", "--rounds", 3, "--seconds", 0, "--threads", 1, "--no-memory")


@pytest.fixture(scope="session")
def copied(finished: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of our own, to write to."""
    folder = tmp_path_factory.mktemp("benched") / "small"
    shutil.copytree(finished[0], folder)
    return folder


@pytest.fixture(scope="session")
def benched(copied: Path) -> Result:
    return run("bench", copied, *QUICK, "--batch", "1,4", "--trust-code", "--json")


def test_a_result_is_timed_against_its_dense_network(benched: Result, copied: Path) -> None:
    assert benched.exit_code == 0, benched.output
    document = last_json(benched)
    result = json.loads((copied / "result.json").read_text())
    dense, small = document["networks"]
    assert (dense["name"], dense["macs"]) == ("dense", result["dense"]["macs"])
    assert (small["name"], small["macs"]) == ("compressed", result["compressed"]["macs"])
    assert small["mac_reduction"] == pytest.approx(result["mac_reduction"])
    timed = [(row["engine"], row["conditions"]["batch"], row["network"]) for row in document["rows"]]
    assert timed == [
        (engine, batch, network)
        for engine in ("pytorch", "pytorch-nchw")
        for batch in (1, 4)
        for network in ("dense", "compressed")
    ]
    assert all(row["median_ms"] > 0 for row in document["rows"])
    assert document["input_shape"] == [3, 8, 8]


def test_the_folder_keeps_it_and_the_report_shows_it(benched: Result, copied: Path) -> None:
    document = last_json(benched)
    kept = json.loads((copied / "bench.json").read_text())
    assert kept == {key: value for key, value in document.items() if key != "out"}
    page = (copied / "bench.html").read_text(encoding="utf-8")
    assert ET.fromstring(page).tag == "html"
    assert "pytorch-nchw, batch 4" in page
    for name in ("speed-up.svg", "milliseconds.svg"):
        assert ET.parse(copied / name).getroot().tag.endswith("svg")
    done = run("report", copied, "--figures", copied / "figures")
    assert done.exit_code == 0, done.output
    report = (copied / "report.html").read_text(encoding="utf-8")
    assert "<h2>Measured speed</h2>" in report
    assert "Speed-up on each engine" in report
    assert (copied / "figures" / "speed-up.svg").exists()


def test_a_damaged_measurement_does_not_cost_the_report(benched: Result, copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(copied, folder)
    (folder / "bench.json").write_text('{"version": 1, "networks": 3}')
    assert run("report", folder).exit_code == 0
    assert "bench.json is damaged at networks" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_model_alone_is_timed_and_nothing_is_written(world: World, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = run("bench", world.model, *QUICK, "--batch", 2, "--input-shape", "3,8,8")
    assert done.exit_code == 0, done.output
    assert "pytorch-nchw" in done.stdout
    assert "speed-up" in done.stdout
    assert all(column in done.stdout for column in ("ready, s", "memory, MB", "difference")), "no column is cut short"
    assert not list(tmp_path.iterdir())


def test_a_model_before_folders_is_the_measure(world: World, copied: Path, tmp_path: Path) -> None:
    done = run("bench", world.model, copied, *QUICK, "--batch", 1, "--trust-code", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    document = last_json(done)
    assert [network["name"] for network in document["networks"]] == [world.model, str(copied)]
    assert document["out"] == str(tmp_path / "out")
    assert (tmp_path / "out" / "bench.json").exists()


def test_refusals(world: World, copied: Path, tmp_path: Path) -> None:
    assert_refused(run("bench", copied, *QUICK), "--trust-code")
    assert_refused(run("bench", world.model, *QUICK), "give --input-shape C,H,W")
    assert_refused(run("bench", copied, "--weights", world.weights, "--trust-code"), "leave out --weights")
    assert_refused(run("bench", world.model, "--engines", "abacus"), "engines are some of pytorch")
    assert_refused(run("bench", world.model, "--precision", "float64"), "got 'float64'")
    assert_refused(run("bench", world.model, "--batch", "0", "--input-shape", "3,8,8"), "at least 1; got batch=0")
    assert_refused(run("bench", world.model, "--batch", "x"), "--batch")
    assert_refused(run("bench", world.model, copied, "--input-shape", "3,8,8", *QUICK), "not run unasked")
    other = tmp_path / "other"
    shutil.copytree(copied, other)
    plan = json.loads((other / "plan.json").read_text())
    plan["origin"]["model"] = str(world.folder / "net.py:wider")
    (other / "plan.json").write_text(json.dumps(plan))
    (other / "model.safetensors").unlink()
    shutil.copy(copied / "model.safetensors", other)
    assert_refused(run("bench", copied, other, "--trust-code", *QUICK), "one dense network|do not fit")
