from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polyadic.layers import spec_of
from polyadic.surgery.patches import patch_rows, some_positions

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "window": (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 5, 6)),
    "stride": (nn.Conv2d(2, 3, 3, stride=(2, 3), padding=(0, 2)), (2, 2, 7, 8)),
    "dilation": (nn.Conv2d(2, 3, (3, 2), dilation=(2, 1), padding=1), (2, 2, 7, 6)),
    "same": (nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 2, 6, 6)),
    "reflect": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 5, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 5, 5)),
    "one by one": (nn.Conv2d(2, 3, 1, stride=2), (2, 2, 5, 5)),
    "one axis": (nn.Conv1d(2, 3, 3, padding=1), (2, 2, 7)),
    "three axes": (nn.Conv3d(2, 3, (1, 2, 3), stride=(1, 2, 1)), (2, 2, 3, 4, 5)),
    "matrix": (nn.Linear(4, 3), (5, 4)),
    "tokens": (nn.Linear(4, 3), (2, 5, 4)),
}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_patches_times_the_weight_are_the_layers_output(kind: str, share: float) -> None:
    layer, shape = LAYERS[kind]
    layer, x = layer.double(), drawn(*shape)
    spec, t = spec_of(layer), layer(x).detach()
    assert spec is not None
    total = t.numel() // 3
    positions = some_positions(t, spec, int(share * total), seed=1)
    assert len(positions) == int(share * total)
    rows = list(patch_rows(x, t, spec, positions))
    y, targets = (torch.cat(part) for part in zip(*rows, strict=True))
    assert y.shape == (len(positions), spec.in_channels * spec.taps)
    torch.testing.assert_close(y @ layer.weight.detach().flatten(1).mT + layer.bias.detach(), targets)
    every = t if spec.axes == 0 else t.movedim(1, -1)
    torch.testing.assert_close(targets, every.reshape(-1, 3)[positions])


def test_channels_last_images_give_the_same_rows() -> None:
    layer, shape = LAYERS["stride"]
    x = drawn(*shape)
    spec, t = spec_of(layer), layer.double()(x).detach()
    assert spec is not None
    positions = some_positions(t, spec, 10**6, seed=0)
    (plain,), (last,) = (
        list(patch_rows(images, t, spec, positions)) for images in (x, x.contiguous(memory_format=torch.channels_last))
    )
    assert torch.equal(plain[0], last[0])


def test_large_inputs_come_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = LAYERS["window"]
    x = drawn(*shape)
    spec, t = spec_of(layer), layer.double()(x).detach()
    assert spec is not None
    positions = some_positions(t, spec, 10**6, seed=0)
    (whole,) = patch_rows(x, t, spec, positions)
    monkeypatch.setattr("polyadic.surgery.patches.CHUNK", 7 * 18)
    parts = list(patch_rows(x, t, spec, positions))
    assert [len(y) for y, _ in parts] == [7] * 8 + [4]
    assert torch.equal(torch.cat([y for y, _ in parts]), whole[0])


def test_positions_are_drawn_once_each_and_by_the_seed() -> None:
    spec, t = spec_of(LAYERS["window"][0]), drawn(2, 3, 5, 6)
    assert spec is not None
    first, again, other = (some_positions(t, spec, 20, seed) for seed in (1, 1, 2))
    assert len(set(first.tolist())) == 20
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_is_raised_to_single() -> None:
    layer = nn.Linear(4, 3)
    spec = spec_of(layer)
    assert spec is not None
    (rows,) = patch_rows(torch.ones(5, 4).half(), torch.ones(5, 3).half(), spec, torch.arange(5))
    assert {part.dtype for part in rows} == {torch.float32}
