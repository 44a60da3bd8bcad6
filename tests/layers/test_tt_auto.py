"""How a tensor-train layer finds its way, and what it would hold in memory."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from trains import SMALL, conv, image_of, layer_of

from cases import gaussian
from polyadic.layers import TTLayer
from polyadic.layers.tt_layer import SPACIOUS
from polyadic.schema import ConvSpec, TTSpec

X = image_of(SMALL, (5, 5))


class Passes:
    """Counts the passes of each way, and makes one of them slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
        self.made = {"cores": 0, "dense": 0}
        for way, name in (("cores", "_by_cores"), ("dense", "_dense")):
            monkeypatch.setattr(TTLayer, name, self._counted(way, getattr(TTLayer, name), way == slow))

    def _counted(
        self, way: str, run: Callable[[TTLayer, Tensor], Tensor], slow: bool
    ) -> Callable[[TTLayer, Tensor], Tensor]:
        def counted(layer: TTLayer, x: Tensor) -> Tensor:
            self.made[way] += 1
            if slow:
                time.sleep(0.02)
            return run(layer, x)

        return counted

    def during(self, action: Callable[[], object]) -> dict[str, int]:
        before = dict(self.made)
        action()
        return {way: count - before[way] for way, count in self.made.items()}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("slow", "fast"), [("cores", "dense"), ("dense", "cores")])
def test_the_faster_way_is_found_once_for_each_size_and_remembered(
    slow: str, fast: str, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, layer = Passes(monkeypatch, slow), layer_of(SMALL, "auto")
    with torch.set_grad_enabled(trained):
        first = passes.during(lambda: layer(X))
        assert min(first.values()) >= 2
        assert first[fast] == first[slow] + 1
        assert passes.during(lambda: layer(X)) == {fast: 1, slow: 0}
        larger = image_of(SMALL, (5, 5), samples=20)
        assert passes.during(lambda: layer(larger))[slow] >= 2
        assert passes.during(lambda: (layer(larger), layer(X))) == {fast: 2, slow: 0}
        layer.forget()
        assert passes.during(lambda: layer(X))[slow] >= 2
    with torch.set_grad_enabled(not trained):  # a pass with its way back is another measurement
        assert passes.during(lambda: layer(X))[slow] >= 2


def test_a_measurement_leaves_no_gradient_and_the_random_state_alone() -> None:
    layer, x = layer_of(SMALL, "auto"), X.clone().requires_grad_()
    state = torch.get_rng_state()
    layer(x)
    assert x.grad is None
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert torch.equal(torch.get_rng_state(), state)


# 4 channels and rank 64: 64 of them lie between the cores
WIDE = TTSpec(conv(4, 4, 1, 1, padding=0), (4, 1), (1, 4), (64,))


def test_cores_that_take_much_more_room_are_not_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    passes, layer, x = Passes(monkeypatch, "dense"), layer_of(WIDE, "auto"), image_of(WIDE, (9, 9))
    space = layer.footprint(x)
    assert space.cores_bytes > SPACIOUS * space.dense_bytes
    with caplog.at_level(logging.INFO, logger="polyadic"):
        assert passes.during(lambda: layer(x)) == {"cores": 0, "dense": 1}
    assert "runs dense: by cores a batch of 2 would hold 0.1 MB instead of 0.0 MB" in caplog.text
    layer.run_in("cores")
    assert passes.during(lambda: layer(x)) == {"cores": 1, "dense": 0}


# Sizes per sample, by hand. From the window on: 4 x 25 in; 2 filters on 4 channels; then t_1 q left = 2 * 3 * 2 and
# T = 2 * 3 of them. The dense layer: 4 in and 6 out at 25 positions, and a kernel of 6 * 4 * 9.
FORWARD = TTSpec(conv(4, 6, 3, 3), (2, 3), (2, 2), (2, 3))
# Towards the window: 16 x 25 in; core 2 leaves r t = 2 * 1 for each of 4 first digits; core 1 leaves r_0 T = 2 * 2.
BACKWARD = TTSpec(conv(16, 2, 3, 3), (2, 1), (4, 4), (2, 2))
# 5 and 7 channels in modes of 6 and 8: 6 x 1 in, with a zero; core 1 leaves t_1 q left = 2 * 3 * 3; core 2 leaves 8
PADDED = TTSpec(ConvSpec(5, 7), (2, 4), (2, 3), (3,))
HELD = [
    (FORWARD, (5, 5), [4 * 25, 4 * 2 * 25, 12 * 25, 6 * 25], 10 * 25, 216),
    (BACKWARD, (5, 5), [16 * 25, 8 * 25, 4 * 25, 2 * 25], 18 * 25, 288),
    (PADDED, (), [6, 18, 8], 12, 35),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("spec", "size", "numbers", "dense", "kernel"), HELD, ids=["window first", "last", "Linear"])
def test_the_footprint_is_what_the_steps_hold(
    spec: TTSpec, size: tuple[int, ...], numbers: list[int], dense: int, kernel: int, dtype: torch.dtype
) -> None:
    layer, x = layer_of(spec).to(dtype), image_of(spec, size, samples=3).to(dtype)
    found, width = layer.footprint(x), x.element_size()
    assert found.cores_bytes == 3 * max(a + b for a, b in itertools.pairwise(numbers)) * width
    assert found.dense_bytes == (3 * dense + kernel) * width
    assert found.cores_saved_bytes == 3 * sum(numbers[:-1]) * width


@pytest.mark.parametrize("spec", [FORWARD, BACKWARD, PADDED, SMALL])
def test_training_by_cores_keeps_what_the_footprint_says(spec: TTSpec) -> None:
    layer = layer_of(spec)
    x = gaussian(40, spec.in_channels, *(9,) * spec.axes).requires_grad_()
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        y = layer(x)
    expected = layer.footprint(x).cores_saved_bytes
    cores = 8 * sum(math.prod(shape) for shape in spec.core_shapes)
    assert y.requires_grad
    assert expected <= sum(kept.values()) <= expected + 2 * cores  # cores, and cores turned
