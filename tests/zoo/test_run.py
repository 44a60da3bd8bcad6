"""The script: rows are kept, failures are seen, the page is made of the results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import zoo.run as script
from torch import nn
from zoo.networks import NETWORKS, Network
from zoo.page import page


class Broken(nn.Module):
    """A network that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        """Fail."""
        raise RuntimeError("a wheel has come off")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("record.RESULTS", tmp_path)
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(script, "PAGE", tmp_path / "zoo.md")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> object:
    monkeypatch.setattr(sys, "argv", ["run.py", *options])
    with pytest.raises(SystemExit) as ended:
        script.main()
    return ended.value.code


def test_a_row_is_written_and_not_run_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--only", "own:m5") == 0
    written = json.loads((results / "zoo.json").read_text())
    assert written["command"] == "python benchmarks/zoo/run.py"
    assert written["rows"]["own:m5"]["layers"] == 5
    assert written["rows"]["own:m5"]["full_rank"]["difference"] <= 1e-9
    assert "| own:m5 | 1 x 8000 | 5 | 5 | - |" in (results / "zoo.md").read_text()

    def unexpected(*_: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(script, "measured", unexpected)
    assert run(monkeypatch, "--only", "own:m5") == 0
    assert json.loads((results / "zoo.json").read_text())["rows"] == written["rows"]


def test_a_network_that_fails_is_a_row_and_is_tried_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "own:m5", Network("own:m5", "sound", Broken, (1, 3, 8, 8)))
    assert "own:m5: " in str(run(monkeypatch, "--only", "own:m5"))
    assert "a wheel has come off" in (results / "zoo.md").read_text()
    monkeypatch.undo()
    monkeypatch.setattr("record.RESULTS", results)
    monkeypatch.setattr(script, "RESULTS", results)
    monkeypatch.setattr(script, "PAGE", results / "zoo.md")
    assert run(monkeypatch, "--only", "own:m5") == 0
    assert "a wheel has come off" not in (results / "zoo.md").read_text()


def test_the_list_names_networks_and_builds_none(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--list", "--only", "timm:convnext"])
    monkeypatch.setattr(Network, "build", None)
    script.main()
    assert capsys.readouterr().out.split() == [
        "classification",
        "timm:convnext_atto",
        "classification",
        "timm:convnextv2_atto",
    ]


def test_every_group_that_was_asked_for_is_there() -> None:
    groups = {network.group for network in NETWORKS.values()}
    assert groups == {
        "odd layers",
        "sound",
        "generation",
        "classification",
        "detection",
        "segmentation",
        "video",
    }


def test_the_page_of_the_documentation_is_that_of_the_results() -> None:
    root = Path(__file__).resolve().parents[2]
    recorded = root / "benchmarks" / "results" / "zoo.json"
    if not recorded.is_file():
        pytest.skip("results of benchmarks are not part of a source distribution")
    assert (root / "docs" / "zoo.md").read_text() == page(json.loads(recorded.read_text()))
