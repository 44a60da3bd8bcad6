from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stage import assert_refused, last_json, run

from disks import files_in, refuse_syncs, tiny_disk

T, S, D = 6, 5, 3
KEYS = {
    "format",
    "rank",
    "relative_error",
    "sensitivity",
    "sensitivity_lemma",
    "sum_squared_intensity",
    "intensity_ratio",
    "parameters",
    "parameters_before",
    "sweeps",
    "seconds",
    "stop",
}
CALLS = [("cp-epc", "4"), ("cp-als", "4"), ("cp-als-epc", "4"), ("tucker2", "3,4"), ("tkd-cpd-epc", "3,4,5")]
SPATIAL = [("cp4-epc", "4"), ("spatial-svd", "4"), ("tt", "3,4,5"), ("tt-matrix[3x2,2x3]", "4,3")]
Array = NDArray[Any]


def kernel() -> Array:
    return np.random.default_rng(0).standard_normal((T, S, D, D))


def order3() -> Array:
    """D^2 x S x T."""
    return kernel().transpose(2, 3, 1, 0).reshape(D * D, S, T)


def rebuilt(arrays: dict[str, Array]) -> Array:
    """The D^2 x S x T tensor of saved factors, by the definition."""
    if "A" in arrays:
        return np.einsum("dr,sr,tr->dst", arrays["A"], arrays["B"], arrays["C"])
    return np.einsum("dab,sa,tb->dst", arrays["G"], arrays["U"], arrays["V"])


def rebuilt_window(fmt: str, arrays: dict[str, Array]) -> Array:
    """The T x S x D x D kernel of saved factors, by the definition."""
    if fmt == "cp4-epc":
        return np.einsum("xr,sr,tr,yr->tsxy", *(arrays[letter] for letter in "ABCD"))
    if fmt == "spatial-svd":  # (T D) x (S D), the last axis of the window with T and the first with S
        return (arrays["P"] @ arrays["Q"]).reshape(T, D, S, D).transpose(0, 2, 3, 1)
    if fmt == "tt":
        return np.einsum("asb,bxc,cyd,dte->tsxy", *(arrays[f"G{number}"] for number in range(1, 5)))
    window, first, second = (arrays[f"G{number}"] for number in range(1, 4))
    digits = np.einsum("awvb,bpqc,cmnd->pmqnw", window, first, second)  # rows by columns by window
    return digits.reshape(6, 6, D, D)[:T, :S]


def error_of(approximation: Array, exact: Array) -> float:
    return float(np.linalg.norm(approximation - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize(("fmt", "rank"), CALLS)
@pytest.mark.parametrize("layout", ["T x S x D x D", "D^2 x S x T"])
def test_the_saved_factors_rebuild_the_kernel_with_the_error_that_is_said(
    tmp_path: Path, fmt: str, rank: str, layout: str
) -> None:
    np.save(tmp_path / "kernel.npy", kernel() if layout == "T x S x D x D" else order3())
    out = tmp_path / "factors.npz"
    said = last_json(run("decompose", tmp_path / "kernel.npy", "--format", fmt, "--rank", rank, "--out", out, "--json"))
    assert set(said) == KEYS
    with np.load(out) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert error_of(rebuilt(arrays), order3()) == pytest.approx(said["relative_error"], abs=1e-8)
    assert 0.0 < said["relative_error"] < 1.0
    assert (said["format"], said["parameters_before"]) == (fmt, T * S * D * D)
    assert said["rank"] == (int(rank) if "," not in rank else [int(part) for part in rank.split(",")])
    assert len(said["stop"].split()) >= 3
    if "cp" in fmt:
        assert said["sensitivity"] > 0
        assert said["intensity_ratio"] >= 1
        assert said["sum_squared_intensity"] > 0
    if fmt == "tkd-cpd-epc":  # the core and the bases apart give the same
        merged = {"A": arrays["core_A"], "B": arrays["U"] @ arrays["core_B"], "C": arrays["V"] @ arrays["core_C"]}
        np.testing.assert_allclose(rebuilt(merged), rebuilt(arrays), atol=1e-10)
    else:
        assert said["parameters"] == sum(array.size for array in arrays.values())


def test_both_layouts_of_one_kernel_give_the_same_factors(tmp_path: Path) -> None:
    for name, array in (("four", kernel()), ("three", order3())):
        np.save(tmp_path / f"{name}.npy", array)
        words = ("--format", "cp-epc", "--rank", 3, "--out", tmp_path / f"{name}.npz")
        assert run("decompose", tmp_path / f"{name}.npy", *words).exit_code == 0
    with np.load(tmp_path / "four.npz") as four, np.load(tmp_path / "three.npz") as three:
        for letter in "ABC":
            np.testing.assert_array_equal(four[letter], three[letter])


@pytest.mark.parametrize(("fmt", "rank"), SPATIAL)
def test_formats_of_the_window_and_of_digits_rebuild_the_kernel_too(tmp_path: Path, fmt: str, rank: str) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    out = tmp_path / "factors.npz"
    said = last_json(run("decompose", tmp_path / "kernel.npy", "--format", fmt, "--rank", rank, "--out", out, "--json"))
    assert set(said) == KEYS
    with np.load(out) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert error_of(rebuilt_window(fmt, arrays), kernel()) == pytest.approx(said["relative_error"], abs=1e-8)
    assert said["parameters"] == sum(array.size for array in arrays.values())
    assert (said["sensitivity"] is not None) == (fmt == "cp4-epc")


def test_a_matrix_is_a_train_of_digits(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((6, 8))
    np.save(tmp_path / "matrix.npy", matrix)
    out = tmp_path / "factors.npz"
    words = ("--format", "tt-matrix[2x3,2x4]", "--rank", 4, "--out", out)
    said = last_json(run("decompose", tmp_path / "matrix.npy", *words, "--json"))
    with np.load(out) as archive:
        train = np.einsum("ampb,bnqc->mnpq", archive["G1"], archive["G2"]).reshape(6, 8)
    assert error_of(train, matrix) < 1e-12  # of full rank
    assert said["rank"] == 4
    shown = run("decompose", tmp_path / "matrix.npy", *words).stdout
    assert "tt-matrix[2x3,2x4]" in shown  # no mark-up


@pytest.mark.parametrize("fmt", ["cp-epc", "cp4-epc", "tucker2", "tkd-cpd-epc", "tt", "spatial-svd", "tt-matrix"])
def test_a_ratio_is_kept(tmp_path: Path, fmt: str) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    words = ("--format", fmt, "--ratio", 3, "--out", tmp_path / "f.npz", "--json")
    said = last_json(run("decompose", tmp_path / "kernel.npy", *words))
    assert said["parameters"] * 3 <= said["parameters_before"]
    assert said["parameters"] * 6 > said["parameters_before"]


@pytest.mark.parametrize("fmt", ["cp-epc", "tkd-cpd-epc", "tt", "spatial-svd", "tt-matrix"])
def test_a_bound_on_the_error_is_kept(tmp_path: Path, fmt: str) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    words = ("--format", fmt, "--error", 0.8, "--out", tmp_path / "f.npz", "--json")
    said = last_json(run("decompose", tmp_path / "kernel.npy", *words))
    assert 0.4 < said["relative_error"] <= 0.8


def test_one_number_serves_for_all_ranks_of_a_train(tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    words = ("--format", "tt", "--rank", 6, "--out", tmp_path / "f.npz", "--json")
    assert last_json(run("decompose", tmp_path / "kernel.npy", *words))["rank"] == [5, 6, 6]


def test_a_matrix_is_factorised_by_svd(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    np.save(tmp_path / "matrix.npy", matrix)
    np.save(tmp_path / "point.npy", matrix[:, :, None, None])
    for name in ("matrix", "point"):
        out = tmp_path / f"{name}.npz"
        words = ("--format", "svd", "--rank", 2, "--out", out, "--json")
        said = last_json(run("decompose", tmp_path / f"{name}.npy", *words))
        with np.load(out) as archive:
            assert error_of(archive["P"] @ archive["Q"], matrix) == pytest.approx(said["relative_error"], abs=1e-8)
        assert said["sensitivity"] is None
        assert said["parameters"] == 2 * (7 + 5)


def test_tucker_ranks_may_be_left_to_an_error_bound(tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    base = ("decompose", tmp_path / "kernel.npy", "--out", tmp_path / "f.npz", "--json")
    said = last_json(run(*base, "--format", "tucker2", "--error", 0.4))
    assert said["relative_error"] <= 0.4
    assert len(last_json(run(*base, "--format", "tkd-cpd-epc", "--rank", 4, "--error", 0.4))["rank"]) == 3


def test_slack_lowers_the_sensitivity_and_stays_within_its_bound(tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    said = []
    for slack in (0.0, 0.1):
        words = ("--format", "cp-epc", "--rank", 6, "--error-slack", slack, "--out", tmp_path / "f.npz", "--json")
        said.append(last_json(run("decompose", tmp_path / "kernel.npy", *words)))
    assert said[1]["sensitivity"] <= said[0]["sensitivity"] * (1 + 1e-9)
    assert said[1]["relative_error"] <= said[0]["relative_error"] * 1.1 * (1 + 1e-9)


def test_for_people_it_prints_every_figure_and_where_the_factors_are(tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    out = tmp_path / "factors"
    result = run("decompose", tmp_path / "kernel.npy", "--format", "tucker2", "--rank", "3,4", "--out", out)
    assert result.exit_code == 0
    assert "relative error" in result.stdout
    assert str(out) in result.stdout.replace("\n", "")
    assert files_in(tmp_path) == {"kernel.npy", "factors"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("cp-epc", "--rank", "0"), "rank 0 is out of bounds"),
        (("cp-epc", "--rank", "-3"), "rank -3 is out of bounds"),
        (("cp-epc", "--rank", "31"), "rank 31 is out of bounds .* between 1 and 30"),
        (("tucker2", "--rank", "6,6"), r"rank \[6, 6\] is out of bounds"),
        (("tucker2", "--rank", "3"), r"takes 2 rank\(s\)"),
        (("cp-epc", "--rank", "two"), "whole number"),
        (("cp-epc",), "takes one of --rank, --ratio and --error"),
        (("cp-epc", "--rank", "2", "--error", "0.1"), "takes one of --rank"),
        (("cp-epc", "--rank", "2", "--ratio", "2"), "takes one of --rank"),
        (("tkd-cpd-epc", "--rank", "2", "--ratio", "2"), "takes one of --rank"),
        (("tkd-cpd-epc", "--rank", "2,2,2", "--error", "0.2"), "takes one of --rank"),
        (("tt", "--ratio", "2", "--error", "0.2"), "takes one of --rank"),
        (("spatial-svd", "--ratio", "100"), "ask for less"),
        (("spatial-svd", "--error", "1"), "lies in 0"),
        (("tt", "--rank", "2,2"), r"takes 3 rank\(s\)"),
        (("tt-matrix[2x2,2x2]", "--rank", "2"), "row modes multiply to"),
        (("tt-matrix[2x2]", "--rank", "2"), "modes are written"),
        (("tucker2", "--error", "-1"), "error"),
        (("tucker2", "--rank", "2,2", "--error-slack", "0.1"), "belongs to formats with EPC"),
        (("cp-epc", "--rank", "2", "--error-slack", "-0.1"), "slack"),
        (("parafac", "--rank", "2"), "a format is one of cp-epc"),
        (("svd", "--rank", "2"), "svd cannot be used here"),
    ],
)
def test_what_cannot_be_asked_is_said_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    np.save(tmp_path / "kernel.npy", kernel())
    out = tmp_path / "factors.npz"
    assert_refused(run("decompose", tmp_path / "kernel.npy", "--format", *words, "--out", out), expected)
    assert files_in(tmp_path) == {"kernel.npy"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "could not be read"),
        (b"", "no plain .npy array"),
        (b"text", "no plain .npy array"),
        (np.array([{"a": 1}], dtype=object), "no plain .npy array"),
        (np.zeros((2, 2), dtype=complex), "real numbers; got complex128"),
        (np.zeros((2, 2), dtype=bool), "real numbers; got bool"),
        (np.zeros((0, 2, 3, 3)), r"real numbers; got float64 of shape \(0, 2, 3, 3\)"),
        (np.zeros(4), "a kernel is T x S x D x D"),
        (np.full((3, 2, 3, 3), np.nan), "NaN or Inf"),
        ({"x": np.zeros((2, 2))}, "archive of arrays"),
    ],
)
def test_a_file_that_is_no_kernel_is_said(tmp_path: Path, content: object, expected: str) -> None:
    path = tmp_path / "kernel.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        with path.open("wb") as file:
            np.savez(file, **content)
    elif isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    result = run("decompose", path, "--format", "cp-als", "--rank", 2, "--out", tmp_path / "out" / "factors.npz")
    assert_refused(result, expected)
    assert files_in(tmp_path) <= {"kernel.npy"}


@pytest.mark.parametrize("wanted", [("--ratio", "2"), ("--error", "0.5"), ("--rank", "2")])
@pytest.mark.parametrize("fmt", ["cp4-epc", "tkd-cpd-epc", "tt", "tt-matrix"])
def test_weights_that_are_not_finite_are_said_before_a_rank_is_looked_for(
    tmp_path: Path, fmt: str, wanted: tuple[str, str]
) -> None:
    np.save(tmp_path / "kernel.npy", np.where(kernel() > 2, np.nan, kernel()))
    words = ("--format", fmt, *wanted, "--out", tmp_path / "f.npz")
    assert_refused(run("decompose", tmp_path / "kernel.npy", *words), "NaN or Inf")


def test_a_full_disk_leaves_no_factors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "kernel.npy", np.random.default_rng(0).standard_normal((64, 64, 3, 3)))
    words = ("decompose", tmp_path / "kernel.npy", "--format", "tucker2", "--rank", "60,60")
    with monkeypatch.context() as full:
        refuse_syncs(full)
        assert_refused(run(*words, "--out", tmp_path / "f.npz"), "free disk space")
    assert files_in(tmp_path) == {"kernel.npy"}
    with tiny_disk(tmp_path / "disk") as disk:
        assert_refused(run(*words, "--out", disk / "f.npz"), "free disk space")
        assert files_in(disk) == set()
