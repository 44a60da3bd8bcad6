from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from polyadic.algebra import order3_to_kernel
from polyadic.decomposition import ALSOptions, LMOptions, StableOptions
from polyadic.errors import LayerError, PolyadicError
from polyadic.schema import DegeneracyRow, DegeneracyStudy
from polyadic.studies import DegeneracyOptions, degeneracy_study, write_degeneracy
from polyadic.studies.degeneracy import describe_layer

OPTIONS = DegeneracyOptions(
    ranks=(1, 2),
    als=ALSOptions(max_sweeps=1000, tolerance=-1.0),
    lm=LMOptions(max_steps=60),
    stable=StableOptions(sensitivity=20.0),
)


def border_rank() -> Tensor:
    """a o a o b + a o b o a + b o a o a: no best approximation of rank 2 exists."""
    a, b = torch.eye(2)
    triples = ((a, a, b), (a, b, a), (b, a, a))
    return sum((torch.einsum("i,j,k->ijk", *triple) for triple in triples), start=torch.zeros(2, 2, 2))


def orthogonal() -> Tensor:
    """2 a o a o a + b o b o b: rank 2, and as well told apart as can be."""
    a, b = torch.eye(2)
    return 2.0 * torch.einsum("i,j,k->ijk", a, a, a) + torch.einsum("i,j,k->ijk", b, b, b)


def model() -> nn.Module:
    layers = [nn.Conv2d(2, 2, (2, 1), bias=False), nn.Conv2d(2, 2, (2, 1), bias=False), nn.Conv2d(2, 2, 1)]
    for layer, X in zip(layers, (border_rank(), orthogonal()), strict=False):
        layer.weight.data.copy_(order3_to_kernel(X, (2, 1)))
    return nn.Sequential(*layers)


X = torch.zeros(1, 2, 4, 4)


@pytest.fixture(scope="module")
def study() -> DegeneracyStudy:
    return degeneracy_study(model(), X, OPTIONS)


def test_the_textbook_degeneracy_is_found_and_a_bound_on_the_sensitivity_prevents_it(
    study: DegeneracyStudy,
) -> None:
    assert study.verdicts["0"] == (
        "degenerate at rank 2 under ALS; degenerate at rank 2 under LM; not degenerate under stable CP"
    )
    assert study.verdicts["1"] == ("not degenerate under ALS; not degenerate under LM; not degenerate under stable CP")
    assert set(study.skipped) == {"2"}
    assert "matrix" in study.skipped["2"]


def test_rows_tell_why(study: DegeneracyStudy) -> None:
    rows = {(row.layer, row.method, row.rank): row for row in study.rows}
    assert len(rows) == 12
    bad, good = rows["0", "als", 2], rows["0", "stable", 2]
    assert bad.opposition < -0.9
    assert bad.sum_squared_intensity > 10
    assert bad.sensitivity > 40 > 21 > good.sensitivity
    assert bad.gram_condition > good.gram_condition
    exact = rows["1", "als", 2]
    assert exact.relative_error == pytest.approx(0.0, abs=1e-5)
    assert exact.intensities == pytest.approx([2 / 5**0.5, 1 / 5**0.5], abs=1e-5)  # of K / ||K||
    assert exact.intensity_ratio == pytest.approx(2.0, rel=1e-4)
    terms = [row for row in study.intensities() if (row["layer"], row["method"], row["rank"]) == ("1", "als", 2)]
    assert [(row["term"], row["intensity"]) for row in terms] == list(enumerate(exact.intensities, 1))


def test_rows_are_kept_and_taken_up_again(study: DegeneracyStudy, tmp_path: Path) -> None:
    kept, rows = replace(OPTIONS, layers=("1",), work=tmp_path), [row for row in study.rows if row.layer == "1"]
    first = degeneracy_study(model(), X, replace(kept, ranks=(1,)))
    again = degeneracy_study(model(), X, replace(kept, resume=True))
    timeless = [[replace(row, seconds=None) for row in rows] for rows in (again.rows, rows)]
    assert timeless[0] == timeless[1]
    assert [row.seconds for row in again.rows if row.rank == 1] == [row.seconds for row in first.rows]
    write_degeneracy(again, tmp_path)
    assert json.loads((tmp_path / "degeneracy.json").read_text())["verdicts"] == {"1": study.verdicts["1"]}
    header, *lines = (tmp_path / "degeneracy.csv").read_text().splitlines()
    assert "intensities" not in header
    assert len(lines) == 6
    assert len((tmp_path / "intensities.csv").read_text().splitlines()) == 1 + 3 * (1 + 2)


@pytest.mark.parametrize(
    ("degenerate", "words"),
    [
        ((0, 1, 1), "degenerate from rank 20 on under ALS"),
        ((1, 1, 1), "degenerate at every rank tried under ALS"),
        ((0, 0, 1), "degenerate at rank 40 under ALS"),
        ((1, 0, 1), "degenerate at rank 10, 40 under ALS"),
        (
            (0, 0, 0),
            "under ALS no two terms are opposite, but larger groups cancel from rank 20 on "
            "(sum of squared intensities up to 40 ||K||^2)",
        ),
    ],
)
def test_the_verdict_says_where(degenerate: tuple[int, ...], words: str) -> None:
    rows = [
        DegeneracyRow(
            layer="conv1",
            method="als",
            rank=rank,
            relative_error=0.5,
            intensity_ratio=2.0,
            sum_squared_intensity=float(rank),
            sensitivity=1.0,
            degenerate=bool(found),
        )
        for rank, found in zip((10, 20, 40), degenerate, strict=True)
    ]
    assert describe_layer(rows[::-1]) == words


def test_ranks_grow_to_where_nothing_is_saved() -> None:
    K = torch.zeros(9, 64, 32)
    assert DegeneracyOptions(shares=(0.5, 1.0)).ranks_for(K) == (88, 176)
    assert DegeneracyOptions(ranks=(5, 3, 5, 900)).ranks_for(K) == (3, 5, 287)


def test_what_cannot_be_decomposed_is_refused() -> None:
    with pytest.raises(LayerError, match=r"2 \(its window is one pixel"):
        degeneracy_study(model(), X, replace(OPTIONS, layers=("2",)))
    with pytest.raises(PolyadicError, match="methods are of als, lm, stable; got nls"):
        DegeneracyOptions(methods=("nls",))
    with pytest.raises(PolyadicError, match="ranks are 1 or more"):
        DegeneracyOptions(ranks=(0,))
