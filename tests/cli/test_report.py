from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from stage import assert_refused, last_json, run


@pytest.fixture(scope="session")
def copied(finished: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three files that a report is made of, and no others."""
    folder = tmp_path_factory.mktemp("copied")
    for name in ("result.json", "plan.json", "trials.jsonl"):
        shutil.copy(finished[0] / name, folder)
    return folder


def test_a_real_result_becomes_a_page_from_three_files(copied: Path, tmp_path: Path) -> None:
    done = run("report", str(copied), "--out", str(tmp_path / "page.html"), "--json")
    assert done.exit_code == 0, done.output
    assert last_json(done) == {"report": str(tmp_path / "page.html"), "figures": []}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    result = json.loads((copied / "result.json").read_text())
    for layer in result["layers"]:
        assert f'<th scope="row">{layer["name"]}</th>' in page
    assert "History of the search" in page
    assert f"{100 * result['compressed']['score']:.2f} %" in page


def test_the_page_stands_in_the_folder_and_figures_where_they_are_asked_for(copied: Path, tmp_path: Path) -> None:
    done = run("report", str(copied), "--figures", str(tmp_path / "figures"))
    assert done.exit_code == 0, done.output
    assert (copied / "report.html").exists()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"strip.svg", "cost.svg", "error.svg", "search.svg"} <= names
    assert all(name in done.output for name in names)


def test_two_results_become_one_page(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report", str(copied), str(copied))
    assert done.exit_code == 0, done.output
    assert "compared" in (tmp_path / "comparison.html").read_text(encoding="utf-8")


def test_refusals(copied: Path, tmp_path: Path) -> None:
    assert_refused(run("report", str(tmp_path / "nowhere")), "nowhere is none")
    assert_refused(run("report", str(copied), str(copied), "--figures", str(tmp_path / "f")), "give it with one")
    assert not (tmp_path / "f").exists()
