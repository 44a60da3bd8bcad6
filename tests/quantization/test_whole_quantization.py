from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from noisy import Noisy
from torch import Tensor, nn

from polyadic.data import ImageData, ImageSet
from polyadic.errors import QuantizationError
from polyadic.quantization import (
    QuantizeOptions,
    Recipe,
    measure_artefacts,
    quantize,
    quantizer_named,
)

OPTIONS = QuantizeOptions(images=64, batch=32, judges=48, ends=False)


class Watched(ImageSet):
    """A set of images that counts how often each was read."""

    def __init__(self, source: ImageSet) -> None:
        self.source, self.reads = source, torch.zeros(len(source.labels), dtype=torch.int64)

    @property
    def labels(self) -> Tensor:
        return self.source.labels

    def images(self, index: Tensor) -> Tensor:
        self.reads[index] += 1
        return self.source.images(index)


def test_the_recipe_nearest_to_the_float_network_is_chosen_and_ends_only_if_worth_it(
    network: nn.Module, data: ImageData
) -> None:
    tried: list[Recipe] = []
    found = quantize(
        network, data, Noisy(), QuantizeOptions(judges=48, batch=32), on_trial=lambda trial: tried.append(trial.recipe)
    )
    assert tried[:2] == [Recipe("loud"), Recipe("quiet")]
    assert set(tried[2:]) == {Recipe("quiet", kept) for kept in (("last",), ("first",), ("first", "last"))}
    assert found.trials[-1].recipe in (Recipe("quiet", ("last",)), Recipe("quiet", ("first", "last")))
    divergences = {trial.recipe: trial.verdict.divergence for trial in found.trials}
    assert divergences[Recipe("loud")] > divergences[Recipe("quiet")] > divergences[Recipe("quiet", ("last",))]
    careful = quantize(network, data, Noisy(), QuantizeOptions(judges=48, batch=32, worth=0.99))
    assert careful.trials[-1].recipe == Recipe("quiet")


def test_test_images_are_read_once_and_ranges_come_from_training_images_alone(
    network: nn.Module, data: ImageData
) -> None:
    held_out, test = Watched(data.held_out), Watched(data.test)
    watched, quantizer = replace(data, held_out=held_out, test=test), Noisy()
    test.reads.zero_()  # the shape of the images is found by reading one
    found = quantize(network, watched, quantizer, OPTIONS)
    assert not test.reads.any()
    assert held_out.reads.any()
    torch.testing.assert_close(torch.cat(quantizer.batches), data.normalise(data.train.images(torch.arange(64))))
    rows = measure_artefacts({"net": found}, watched, quantizer, batches=(1,), seconds=0.01)
    assert bool((test.reads == len(rows)).all())


def test_rows_hold_what_the_networks_get_right_and_weigh(network: nn.Module, data: ImageData) -> None:
    quantizer = Noisy()
    found = quantize(network, data, quantizer, OPTIONS)
    plain, rounded = measure_artefacts({"net": found}, data, quantizer, batches=(1, 4), seconds=0.01, scoring_batch=17)
    with torch.no_grad():
        answers = network(data.normalise(data.test.images(torch.arange(60)))).argmax(1)
    assert plain.accuracy == pytest.approx(float((answers == data.test.labels).float().mean()))
    assert (plain.precision, rounded.precision, plain.bytes, rounded.bytes) == ("float32", "int8", 4, 1)
    assert rounded.drop == pytest.approx(100 * (plain.accuracy - rounded.accuracy))
    assert set(plain.milliseconds) == {1, 4}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: QuantizeOptions(images=0), "images is a number of images from 1 up; got 0"),
        (lambda: QuantizeOptions(worth=1.0), "worth is a share from 0 to below 1; got 1.0"),
        (lambda: quantizer_named("tflite"), "onnxruntime, openvino, torchao; got 'tflite'"),
    ],
)
def test_what_cannot_be_is_said(make: Callable[[], object], words: str) -> None:
    with pytest.raises(QuantizationError, match=words):
        make()


def test_a_missing_library_is_named(network: nn.Module, data: ImageData) -> None:
    class Absent(Noisy):
        missing = lambda self: "it is not installed: pip install it"  # noqa: E731

    with pytest.raises(QuantizationError, match="noisy: it is not installed: pip install it"):
        quantize(network, data, Absent(), OPTIONS)


def test_answers_that_are_not_finite_are_refused(network: nn.Module, data: ImageData) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.get_submodule("head").get_parameter("bias")[0] = float("nan")
    with pytest.raises(QuantizationError, match="finite"):
        quantize(broken, data, Noisy(), OPTIONS)
