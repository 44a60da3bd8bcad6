from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from folders import PROVENANCE, TRIALS, folder
from summaries import summary

from polyadic.errors import StorageError
from polyadic.reporting import read_result


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = summary(provenance=PROVENANCE, warnings=("be careful",))
    read = read_result(folder(tmp_path, written))
    assert read.result == written
    assert (read.model, read.damaged) == ("net.py:build", 0)
    assert [record.number for record in read.trials] == [1, 2, 3, 4, 5]
    assert read.trials[0].trial.plan.choices[0].rank == (2,)


def test_what_is_not_finite_is_not_a_number_again(tmp_path: Path) -> None:
    read = read_result(folder(tmp_path, summary(compressed_score=math.nan, drop_interval=(math.nan, math.nan))))
    assert math.isnan(read.result.compressed_score)
    assert read.result.drop_interval is None


def test_a_folder_without_a_log_has_no_trials(tmp_path: Path) -> None:
    read = read_result(folder(tmp_path, trials=None))
    assert (read.trials, read.damaged) == ((), 0)


def test_damaged_lines_of_the_log_are_counted_and_left_out(tmp_path: Path) -> None:
    path = folder(tmp_path, trials=TRIALS[:2])
    with (path / "trials.jsonl").open("ab") as log:
        log.write(b'{"trial": 3}\n[]\n\xff\xfe\n{"trial": 4, "pl')
    read = read_result(path)
    assert (len(read.trials), read.damaged) == (2, 4)


def changed(path: Path, name: str, **changes: Any) -> None:
    """Replace parts of a document; a part that becomes None is taken out."""
    document = {**json.loads((path / name).read_text()), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    (path / name).write_text(json.dumps(kept))


@pytest.mark.parametrize("part", ["dense", "compressed", "score_name", "layers"])
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    path = folder(tmp_path)
    changed(path, "result.json", **{part: None})
    with pytest.raises(StorageError, match=rf"result\.json is damaged at {part} \(Field required\): copy it again"):
        read_result(path)


@pytest.mark.parametrize(
    ("part", "value", "place"),
    [
        ("dense", {"params": 1, "macs": 2, "bytes": 3}, r"dense\.score"),
        ("layers", [{"name": "conv1"}], r"layers\.0\.status"),
        ("layers", 5, "layers"),
        ("warnings", "one", "warnings"),
    ],
)
def test_a_part_of_another_kind_is_named(tmp_path: Path, part: str, value: Any, place: str) -> None:
    path = folder(tmp_path)
    changed(path, "result.json", **{part: value})
    with pytest.raises(StorageError, match=rf"damaged at {place} "):
        read_result(path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
@pytest.mark.parametrize("name", ["result.json", "plan.json"])
def test_another_version_is_refused(tmp_path: Path, name: str, version: Any) -> None:
    path = folder(tmp_path)
    changed(path, name, version=version)
    with pytest.raises(StorageError, match=rf"{name} has version {version}; this release reads version 1: use the"):
        read_result(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("result.json", "{", "is no JSON"),
        ("result.json", "[]", "got a list"),
        ("plan.json", "", "is no JSON"),
        ("plan.json", '{"version": 1}', "a plan is a list"),
        ("plan.json", '{"version": 1, "layers": [{"layer": "conv1"}]}', "at 0.format"),
    ],
)
def test_damage_is_said_with_the_file(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = folder(tmp_path)
    (path / name).write_text(content)
    with pytest.raises(StorageError, match=rf"{name} .*{words}"):
        read_result(path)


def test_what_is_no_result_yet_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere is none"):
        read_result(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=r"finish the run with --resume"):
        read_result(tmp_path)
    folder(tmp_path / "searched")
    (tmp_path / "searched" / "result.json").unlink()
    with pytest.raises(StorageError, match=r"not carried out.*polyadic compress --plan"):
        read_result(tmp_path / "searched")
    folder(tmp_path / "torn")
    (tmp_path / "torn" / "plan.json").unlink()
    with pytest.raises(StorageError, match=r"plan\.json could not be read"):
        read_result(tmp_path / "torn")
