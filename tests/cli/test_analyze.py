from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

from click.testing import Result
from stage import World, assert_refused, last_json, run

GRID = ("--cuts", "o,oi,o+i", "--shares", "0.25,0.5", "--images", "30", "--calibration-images", "30")


def assert_page(shown: Result, folder: Path, document: dict[str, Any], *texts: str) -> None:
    """The study has a page, which says ``texts`` and can be made again from the folder alone."""
    page = folder / "report.html"
    assert document["report"] == str(page)
    assert f"the whole story: {page}" in shown.stdout
    content = page.read_text(encoding="utf-8")
    for text in texts:
        assert text in content
    page.unlink()
    again = run("report", folder, "--figures", folder / "figures")
    assert again.exit_code == 0, again.output
    assert page.read_text(encoding="utf-8") == content
    assert len(list((folder / "figures").iterdir())) >= 4
    shutil.rmtree(folder / "figures")


def test_truncation_writes_tables_and_goes_on(world: World, tmp_path: Path) -> None:
    words = ("analyze", "truncation", world.model, "--weights", world.weights, "--data", world.data, *GRID)
    retrain = ("--retrain", "o+i=0.25", "--retrain-epochs", "1", "--retrain-steps", "2")
    document = last_json(run(*words, *retrain, "--test-images", "40", "--out", tmp_path, "--json"))
    assert document["rows"] > 12
    assert 0 <= document["dense_test_accuracy"] <= 1
    assert [row["form"] for row in document["retrained"]] == ["dense", "factorised"]
    assert "head" in document["skipped"]
    with (tmp_path / "truncation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["rows"]
    assert {row["group"] for row in rows} == {"conv1", "conv2", "all", "shallow", "deep"}
    assert_refused(run(*words, "--out", tmp_path), "go on with --resume")
    shown = run(*words, *retrain, "--test-images", "40", "--out", tmp_path, "--resume")
    assert shown.exit_code == 0, shown.output
    assert "trained again" in shown.stdout
    assert "o+i" in shown.stdout
    assert "head was left out" in shown.stdout
    assert_page(shown, tmp_path, document, "Which half bears more", "What training gives back", "head: ")


def test_degeneracy_prints_a_verdict_for_each_layer(world: World, tmp_path: Path) -> None:
    words = (
        "analyze",
        "degeneracy",
        world.model,
        "--weights",
        world.weights,
        "--input-shape",
        "3,8,8",
        "--ranks",
        "2,4",
        "--methods",
        "als",
    )
    document = last_json(run(*words, "--out", tmp_path, "--json"))
    assert document["rows"] == 2 * 2
    assert set(document["verdicts"]) == {"conv1", "conv2"}
    shown = run(*words, "--out", tmp_path, "--resume", "--layer", "conv*")
    assert shown.exit_code == 0, shown.output
    assert document["verdicts"]["conv2"] in shown.stdout
    assert_page(shown, tmp_path, document, document["verdicts"]["conv2"], "Sum of squared intensities")
    assert {path.name for path in tmp_path.iterdir()} == {
        "rows.jsonl", "degeneracy.json", "degeneracy.csv", "intensities.csv", "report.html"
    }  # fmt: skip


def test_layers_are_tried_one_by_one(world: World, tmp_path: Path) -> None:
    words = ("analyze", "layers", world.model, "--weights", world.weights, "--data", world.data, "--images", "30")
    less = ("--formats", "tucker2,svd", "--shares", "0.5", "--no-tune", "--out", tmp_path)
    document = last_json(run(*words, *less, "--json"))
    assert document["rows"] == 3
    shown = run(*words, *less, "--resume")
    assert shown.exit_code == 0, shown.output
    assert "one layer factorised" in shown.stdout
    assert_page(shown, tmp_path, document, "Accuracy over the cost", "tucker2")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "layers.json", "layers.csv", "report.html"}


def test_what_cannot_be_read_is_refused(world: World, tmp_path: Path) -> None:
    words = ("analyze", "truncation", world.model, "--data", world.data, "--out", tmp_path)
    assert_refused(run(*words, "--cuts", "ox"), "a cut divides the indices")
    assert_refused(run(*words, "--retrain", "o+i=0.5"), "give --retrain-epochs, too")
    assert_refused(run(*words, "--retrain-epochs", 1, "--retrain", "o+i"), "such as o\\+i=0.25")
    assert_refused(run(*words, "--precision", "half"), "float32 or bfloat16")
    assert_refused(run("analyze", "degeneracy", world.model, "--out", tmp_path), "give --input-shape")
    assert_refused(
        run("analyze", "degeneracy", world.model, "--input-shape", "3,8,8", "--methods", "nls", "--out", tmp_path),
        "methods are of als, lm, stable",
    )
