from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kernels import PLAIN, patch_data, trained_net
from torch import nn
from watching import StoppedError, Watched, stop_after

from polyadic.data.images import ImageData
from polyadic.errors import DecompositionError, LayerError, PolyadicError
from polyadic.studies import TruncationOptions, TruncationStudy, truncation_study, write_truncation
from polyadic.training import score_images

SMALL = TruncationOptions(
    chains=("o", "oi", "o+i"),
    shares=(0.3, 0.6, 1.0),
    images=60,
    calibration_images=60,
    test_images=None,
    execution=PLAIN,
)


@pytest.fixture(scope="module")
def study() -> TruncationStudy:
    return truncation_study(trained_net(), patch_data(), SMALL)


def test_one_row_for_each_layer_and_group_cut_and_rank(study: TruncationStudy) -> None:
    keys = [(row.kind, row.group, row.chain, row.share) for row in study.rows]
    assert len(set(keys)) == len(keys)
    single = [key[1:] for key in keys if key[0] == "single"]
    wide = list(itertools.product(("conv1", "conv2"), ("o|ihw", "oi|hw", "o|ihw+i|ohw"), (0.3, 0.6)))
    # 1 x 1: oi|hw cuts nothing; a rank of all channels is no truncation; conv1 has 3 inputs
    assert sorted(single) == sorted([*wide, *itertools.product(("mix",), ("o|ihw", "o|ihw+i|ohw"), (0.3, 0.6))])
    assert {key[1] for key in keys if key[0] == "joint"} == {"all", "shallow", "deep"}
    assert study.skipped == {"head": "its kernel does not have four indices"}
    assert all(row.share < 1 for row in study.rows)


def test_rows_are_consistent(study: TruncationStudy) -> None:
    for row in study.rows:
        assert 0 < row.norm_loss < 1
        assert row.norm_loss**2 + row.kept_energy == pytest.approx(1.0, abs=1e-6)
        assert 0 < row.kept_fraction < 1
        assert row.divergence > 0
        assert row.perturbed_divergence > 0
        assert row.accuracy_recalibrated is not None
        single_cut = row.kind == "single" and "+" not in row.chain
        assert (row.entropy is not None) == single_cut
        assert (row.test_accuracy is not None) == (row.kind == "joint")
        if single_cut:
            assert 0 <= row.entropy <= math.log(row.largest_rank[0]) + 1e-9
            assert row.effective_rank == pytest.approx(math.exp(row.entropy))


def test_a_single_row_is_what_the_definition_says(study: TruncationStudy) -> None:
    data, model = patch_data(), trained_net()
    row = next(r for r in study.rows if (r.group, r.chain, r.share) == ("conv2", "o|ihw", 0.3))
    weight = model.get_parameter("conv2.weight")
    U, s, Vh = torch.linalg.svd(weight.detach().double().flatten(1), full_matrices=False)
    assert row.rank == (2,)
    assert row.norm_loss == pytest.approx(float((s[2:].square().sum() / s.square().sum()).sqrt()), rel=1e-5)
    assert row.parameter_ratio == pytest.approx(2 * (8 + 72) / 576)
    weight.data.copy_(((U[:, :2] * s[:2]) @ Vh[:2]).reshape(weight.shape))
    assert row.accuracy == score_images(model, data.held_out, data.normalise, execution=PLAIN).value
    singular = [r.singular_value for r in study.spectra if (r.layer, r.cut) == ("conv2", "o")]
    assert singular == pytest.approx(s.tolist(), rel=1e-5)
    random = [r.gaussian_singular_value for r in study.spectra if (r.layer, r.cut) == ("conv2", "o")]
    assert math.hypot(*random) == pytest.approx(math.hypot(*singular), rel=1e-5)


def test_the_model_is_left_as_it_is() -> None:
    model = trained_net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    truncation_study(
        model, patch_data(), replace(SMALL, layers=("conv2",), chains=("o",), retrain_epochs=1, retrain=())
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("rows", [0, 5, 17])
def test_an_interrupted_study_goes_on_to_the_same_rows(study: TruncationStudy, tmp_path: Path, rows: int) -> None:
    options = replace(SMALL, work=tmp_path)
    with pytest.raises(StoppedError):
        truncation_study(trained_net(), patch_data(), options, on_progress=stop_after(rows))
    again = truncation_study(trained_net(), patch_data(), replace(options, resume=True))
    assert again == study
    write_truncation(again, tmp_path)
    assert len((tmp_path / "truncation.csv").read_text().splitlines()) == 1 + len(study.rows)
    with pytest.raises(PolyadicError, match="another model, data or options"):
        truncation_study(trained_net(), patch_data(), replace(options, resume=True, images=30))


def test_test_images_are_read_after_everything_else() -> None:
    log: list[str] = []
    data = patch_data()
    watched = ImageData(
        data.name, data.train, data.held_out, Watched(data.test, log), 3, data.mean, data.std, data.digests
    )
    options = replace(SMALL, chains=("o",), retrain_epochs=1, retrain_steps=2, retrain=(("o", 0.3),))
    truncation_study(trained_net(), watched, options, on_progress=lambda done, total, what: log.append(what))
    first = log.index("read")
    assert set(log[first:]) == {"read"}
    assert any(what.startswith("retrained/") for what in log[:first])


def test_without_batch_norm_nothing_is_recalibrated() -> None:
    model = trained_net()
    for name in ("norm1", "norm2"):
        setattr(model, name, nn.Identity())
    found = truncation_study(model, patch_data(), replace(SMALL, layers=("conv2",), chains=("o",)))
    assert [row.accuracy_recalibrated for row in found.rows] == [None, None]


def test_training_repairs_and_factors_stay_small(tmp_path: Path) -> None:
    options = replace(
        SMALL,
        chains=("o",),
        layers=("conv*",),
        retrain_epochs=8,
        retrain_batch_size=20,
        learning_rate=0.03,
        retrain=(("o+i", 0.5), ("oi+oh", 0.2)),
        work=tmp_path,
    )
    found = truncation_study(trained_net(), patch_data(), options)
    forms = [(row.chain, row.form) for row in found.retrained]
    assert forms == [("o|ihw+i|ohw", "dense"), ("o|ihw+i|ohw", "factorised"), ("oi|hw+oh|iw", "dense")]
    dense, factorised, _ = found.retrained
    assert dense.parameter_ratio == 1.0
    # ranks (4, 2) of 8 x 3 and (4, 4) of 8 x 8 channels, 9 positions each
    assert factorised.parameter_ratio == pytest.approx((8 * 4 + 3 * 2 + 72 + 2 * 8 * 4 + 144) / (216 + 576))
    for row in (dense, factorised):
        assert row.accuracy_after > row.accuracy_before
        assert row.test_accuracy is not None
        assert len(row.accuracy_by_epoch) == 8
    again = truncation_study(trained_net(), patch_data(), replace(options, resume=True))
    assert again.retrained == found.retrained
    write_truncation(again, tmp_path)
    assert len((tmp_path / "retrained.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chains": ()}, "at least one cut"),
        ({"shares": (0.0,)}, "shares above 0"),
        ({"shares": (1.2,)}, "shares above 0"),
        ({"images": 0}, "images of a truncation study is at least 1"),
        ({"retrain_epochs": -1}, "0 or more"),
    ],
)
def test_options_that_are_none_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PolyadicError, match=words):
        replace(SMALL, **changes)
    with pytest.raises(DecompositionError, match="a cut divides"):
        replace(SMALL, chains=("q",))


def test_layers_without_four_indices_are_refused_by_name() -> None:
    with pytest.raises(LayerError, match=r"head \(its kernel does not have four indices\)"):
        truncation_study(trained_net(), patch_data(), replace(SMALL, layers=("head",)))
    with pytest.raises(LayerError, match="every pattern of layers matches a layer"):
        truncation_study(trained_net(), patch_data(), replace(SMALL, layers=("absent",)))
