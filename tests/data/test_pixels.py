"""Pixels of image files become inputs: size, order of channels, layout, range, each as an array says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polyadic.data import IMAGENET_MEAN, IMAGENET_STD, Pixels, load_samples
from polyadic.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)


def made(pixels: Pixels, values: Any = RGB) -> Any:
    return pixels.normalise(values).double().numpy()


def test_colours_are_normalised_by_the_constants_of_imagenet() -> None:
    wanted = (RGB / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(made(Pixels((3, 4, 5))), wanted.transpose(0, 3, 1, 2), atol=1e-5)


def test_bgr_turns_the_channels_round_and_the_constants_with_them() -> None:
    wanted = made(Pixels((3, 4, 5)))[:, ::-1]
    np.testing.assert_array_equal(made(Pixels((3, 4, 5), channel_order="bgr")), wanted)
    own = Pixels((3, 4, 5), mean=(0.1, 0.2, 0.3), std=(1, 1, 1), channel_order="bgr")
    np.testing.assert_allclose(made(own)[:, 0], RGB[..., 2] / 255.0 - 0.1, atol=1e-6)


@pytest.mark.parametrize(("shape", "layout"), [((4, 5, 3), None), ((3, 5, 3), "NHWC")])
def test_channels_last_are_seen_or_said(shape: tuple[int, ...], layout: Any) -> None:
    values = RGB[:, : shape[0]]
    pixels = Pixels(shape, layout=layout)
    assert (pixels.size, pixels.known_layout) == ((3, *shape[:2]), "NHWC")
    np.testing.assert_array_equal(made(pixels, values), made(Pixels((3, *shape[:2])), values).transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("value_range", "low", "high"), [("0,255", 0, 255), ("-1,1", -1, 1)])
def test_other_ranges_are_left_as_they_are_unless_constants_are_given(value_range: Any, low: int, high: int) -> None:
    in_range = low + RGB.transpose(0, 3, 1, 2) / 255.0 * (high - low)
    np.testing.assert_allclose(made(Pixels((3, 4, 5), value_range=value_range)), in_range, atol=1e-4)
    pixels = Pixels((3, 4, 5), (0.5,) * 3, (2.0,) * 3, value_range=value_range)
    np.testing.assert_allclose(made(pixels), (in_range - 0.5) / 2, atol=1e-4)


@pytest.mark.parametrize("value_range", ["0,1", "0,255", "-1,1"])
def test_what_is_kept_of_a_network_is_of_pixels_in_0_to_1(value_range: Any) -> None:
    pixels = Pixels((3, 4, 5), (0.5, 1, 2), (2, 3, 4), value_range=value_range)
    mean, std = map(np.array, pixels.constants)
    np.testing.assert_allclose((RGB / 255.0 - mean) / std, made(pixels).transpose(0, 2, 3, 1), atol=1e-5)


def test_a_network_of_one_channel_sees_grey(tmp_path: Path) -> None:
    Image.fromarray(RGB[0]).save(tmp_path / "a.png")
    (batch,) = load_samples(f"samples:{tmp_path}", Pixels((1, 4, 5), resize=False, value_range="0,255"))
    assert isinstance(batch, torch.Tensor)
    grey = np.asarray(Image.fromarray(RGB[0]).convert("L"), dtype=np.float32)
    np.testing.assert_array_equal(batch.numpy(), grey[None, None])


def test_images_of_any_size_become_of_one(tmp_path: Path) -> None:
    for name, size in (("a", (9, 30)), ("b", (40, 7))):
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / f"{name}.png")
    (batch,) = load_samples(f"samples:{tmp_path}", Pixels((8, 6, 3), channel_order="bgr", value_range="0,255"))
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (2, 8, 6, 3)
    np.testing.assert_array_equal(batch.flatten(0, 2).unique(dim=0).numpy(), [[30, 20, 10]])


@pytest.mark.parametrize(
    ("known", "size", "order", "layout", "wanted"),
    [
        (None, None, None, None, (3, 224, 224)),
        (None, (8, 6), None, None, (3, 8, 6)),
        (None, (8, 6), "grey", None, (1, 8, 6)),
        (None, (8, 6), "bgr", "NHWC", (8, 6, 3)),
        ((1, 28, 28), (8, 6), None, None, (1, 8, 6)),
        ((32, 32, 3), (8, 6), None, None, (8, 6, 3)),
        ((1, 28, 28), None, None, None, (1, 28, 28)),
    ],
)
def test_the_size_that_is_said_goes_with_the_channels_that_are_known(
    known: Any, size: Any, order: Any, layout: Any, wanted: tuple[int, ...]
) -> None:
    assert Pixels.shape_of(known, size, order, layout) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"shape": (4, 8, 8)}, "1 channel .grey. or 3, .C, H, W. or .H, W, C."),
        ({"shape": (3, 0, 8)}, "1 channel"),
        ({"shape": (3, 8, 8), "layout": "NHWC"}, "as NHWC"),
        ({"layout": "CHWN"}, "the layout is NCHW or NHWC; got 'CHWN'"),
        ({"channel_order": "gbr"}, "the channel order is rgb or bgr or grey; got 'gbr'"),
        ({"channel_order": "grey"}, "grey has 1 channel.s.; the network takes 3"),
        ({"value_range": "0,2"}, "the range of values is 0,1 or 0,255 or -1,1; got '0,2'"),
        ({"mean": (0.5,)}, "mean has one number per channel; got 1 for 3"),
        ({"std": (1, 1, float("nan"))}, "std finite and above 0; got std"),
        ({"std": (1, 0, 1)}, "std finite and above 0"),
        ({"mean": (1, float("inf"), 1)}, "mean is finite, .* got mean"),
    ],
)
def test_what_makes_no_input_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Pixels(**words)
