from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kernels import PLAIN, patch_data, trained_net
from watching import StoppedError, Watched, stop_after

from polyadic.data.images import ImageData
from polyadic.errors import LayerError, PolyadicError
from polyadic.schema import LayerRow, LayerStudy
from polyadic.studies import LayerOptions, layer_study, write_layers
from polyadic.training import FinetuneOptions, score_images

TUNING = FinetuneOptions(epochs=1, steps_per_epoch=10, batch_size=20, learning_rate=0.01, distillation=1.0)
SMALL = LayerOptions(formats=("tucker2", "svd"), shares=(0.3, 0.6), tuning=TUNING, images=60, execution=PLAIN)


def timeless(study: LayerStudy) -> list[LayerRow]:
    return [replace(row, seconds=None) for row in study.rows]


@pytest.fixture(scope="module")
def study() -> LayerStudy:
    return layer_study(trained_net(), patch_data(), SMALL)


def test_one_row_for_each_layer_format_and_rank(study: LayerStudy) -> None:
    served = {(row.layer, row.format) for row in study.rows}
    assert served == {("conv1", "tucker2"), ("conv2", "tucker2"), ("mix", "svd"), ("head", "svd")}
    for row in study.rows:
        assert row.mac_ratio <= row.share
        assert 0 < row.relative_error < 1
        assert row.divergence > 0
    data = patch_data()
    dense = score_images(trained_net(), data.held_out, data.normalise, execution=PLAIN).value
    assert study.dense_accuracy == pytest.approx(dense)


def test_more_macs_mean_less_error(study: LayerStudy) -> None:
    errors = [row.relative_error for row in study.rows if (row.layer, row.format) == ("conv2", "tucker2")]
    assert len(errors) == 2
    assert errors[0] > errors[1]


def test_tuning_one_layer_never_leaves_it_worse(study: LayerStudy) -> None:
    assert all(row.accuracy_tuned >= row.accuracy for row in study.rows)
    assert any(row.divergence_tuned < row.divergence for row in study.rows)


def test_without_tuning_there_is_no_score_after_it() -> None:
    found = layer_study(trained_net(), patch_data(), replace(SMALL, tuning=None, layers=("mix",)))
    assert {row.accuracy_tuned for row in found.rows} == {None}


def test_the_model_is_left_as_it_is_and_no_test_image_is_read() -> None:
    log: list[str] = []
    model, data = trained_net(), patch_data()
    watched = ImageData(
        data.name, data.train, data.held_out, Watched(data.test, log), 3, data.mean, data.std, data.digests
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_study(model, watched, replace(SMALL, layers=("conv2",)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert log == []


def test_an_interrupted_study_goes_on_to_the_same_rows(study: LayerStudy, tmp_path: Path) -> None:
    options = replace(SMALL, work=tmp_path)
    with pytest.raises(StoppedError):
        layer_study(trained_net(), patch_data(), options, on_progress=stop_after(3))
    again = layer_study(trained_net(), patch_data(), replace(options, resume=True))
    assert timeless(again) == timeless(study)
    write_layers(again, tmp_path)
    assert len((tmp_path / "layers.csv").read_text().splitlines()) == 1 + len(study.rows)


def test_what_cannot_be_studied_is_refused() -> None:
    with pytest.raises(LayerError, match="a format is one of"):
        LayerOptions(formats=("nmf",))
    with pytest.raises(PolyadicError, match="shares of MACs above 0"):
        LayerOptions(shares=(0.0,))
    with pytest.raises(LayerError, match="every pattern of layers matches a layer"):
        layer_study(trained_net(), patch_data(), replace(SMALL, layers=("absent",)))
    with pytest.raises(LayerError, match=r"conv1 \(no format serves it"):
        layer_study(trained_net(), patch_data(), replace(SMALL, layers=("conv1",), formats=("svd",)))
