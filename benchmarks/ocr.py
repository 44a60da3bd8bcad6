"""How many characters a reader of text finds with its detection network as published, and with another one.

    pip download --no-deps rapidocr-onnxruntime==1.4.4        # unzip it: OCR, beside pyclipper, shapely, opencv, yaml
    python benchmarks/ocr.py samples DATA OCR FONTS --out runs/ocr/pages.npz
    python benchmarks/ocr.py score DATA OCR FONTS [OTHER.onnx]

OTHER is a detection network that was made of the published one, by samples of ``samples`` where it needs any.
DATA is the folder of packed photographs, OCR a folder with the package ``rapidocr_onnxruntime``, FONTS one of fonts.
The 200 pages that judge are drawn with another seed, on other photographs, than those that compress. F1 is of
characters without blanks: 2 matched / (written + found); matched are those of the longest common subsequence of a
line and what was found where it stands. ``loose_f1`` takes characters anywhere on their page.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx_networks.graph_macs import macs_by_kind
from onnx_networks.pages import Page, fonts_in, pages
from onnx_networks.reading import Count, compared
from onnx_networks.timed import timed_in_turns
from PIL import Image
from record import record
from trained.packed import images_in, photographs

JUDGING, COMPRESSING = 18, 81
"""Seeds of the pages that judge, and of those that compress."""
CONVENTION = "characters without blanks; F1 = 2 in place / (written + found), of the longest common subsequence by line"
SIDE = 320
MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"


def main() -> None:
    """Samples to compress by, or the score of one detection network or two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("samples", "score"))
    parser.add_argument("data", type=Path)
    parser.add_argument("ocr", type=Path)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("compressed", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, default=Path("runs/ocr/pages.npz"))
    given = parser.parse_args()
    if given.step == "samples":
        write_samples(given)
    else:
        score(given)


def write_samples(given: argparse.Namespace) -> None:
    """Crops of SIDE x SIDE at the size in which the reader shows pages to the network: x, (N, 3, S, S)."""
    drawn = pages(given.count, COMPRESSING, fonts_in(given.fonts), photographs(given.data, 200))
    generator = np.random.default_rng(COMPRESSING)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(given.out, x=np.stack([_crop(page, generator) for page in drawn]))


def _crop(page: Page, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """What the network sees of a page, blue first, (3, S, S) in -1..1: its shorter side is 736 pixels."""
    height, width = page.picture.shape[:2]
    scale = 736 / min(height, width)
    shown = Image.fromarray(page.picture).resize((round(width * scale), round(height * scale)))
    pixels = np.asarray(shown, np.float32)[:, :, ::-1] / 127.5 - 1
    top, left = (int(generator.integers(0, side - SIDE + 1)) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1))


def score(given: argparse.Namespace) -> None:
    """Read all pages with each network; write the counts, MACs by kind and times."""
    sys.path.insert(0, str(given.ocr))
    held_out = zip(range(200), images_in(given.data / "imagenet_heldout.npz"), strict=False)
    backgrounds = [image.convert("RGB") for _, image in held_out]
    fonts = fonts_in(given.fonts)
    drawn = pages(given.count, JUDGING, fonts, backgrounds)
    files = {"published": given.ocr / MODEL} | ({"compressed": given.compressed} if given.compressed else {})
    shape = (1, 3, 736, 1088)  # a page of usual size
    figures: dict[str, Any] = {}
    for name, path in files.items():
        counts = read_all(path, drawn, given.threads)
        total = sum(counts, Count(0, 0, 0, 0))
        macs = macs_by_kind(onnx.load(path), {"x": np.zeros(shape, np.float32)})
        figures[name] = {
            "f1": total.f1,
            "loose_f1": total.loose_f1,
            "characters": dict(zip(("written", "found", "in_place", "anywhere"), total.numbers, strict=True)),
            "counts_of_pages": [count.numbers for count in counts],
            "macs": sum(macs.values()),
            "macs_by_kind": macs,
            "bytes": path.stat().st_size,
        }
        print(name, {key: figures[name][key] for key in ("f1", "loose_f1", "macs", "macs_by_kind")}, flush=True)
    if given.compressed:
        figures["lost_points"] = _lost(figures)
        figures["time"] = timed_in_turns(files, {"x": np.zeros(shape, np.float32)}, given.threads, given.rounds)
    steps = "python benchmarks/ocr.py samples | score DATA OCR FONTS [OTHER.onnx]"  # paths are the machine's
    known = {"fonts": _families(fonts), "packages": _versions()}
    record("ocr", {"command": steps, "convention": CONVENTION, **known, **figures})


def read_all(path: Path, drawn: list[Page], threads: int) -> list[Count]:
    """Read every page with the detection network at ``path``; the other two networks are as published."""
    from rapidocr_onnxruntime import RapidOCR

    began, counts = time.monotonic(), []
    reader = RapidOCR(det_model_path=str(path), intra_op_num_threads=threads)
    for number, page in enumerate(drawn, 1):
        found, _ = reader(np.ascontiguousarray(page.picture[:, :, ::-1]))
        counts.append(compared(page, [(quad, text) for quad, text, _ in found or []]))
        if number % 20 == 0:
            so_far = sum(counts, Count(0, 0, 0, 0))
            print(f"{path.name} {number} pages {time.monotonic() - began:.0f} s F1 {so_far.f1:.4f}", flush=True)
    return counts


def _lost(figures: dict[str, Any], draws: int = 2000) -> dict[str, Any]:
    """Points of F1, and the 95 % interval of that: pages drawn with replacement, the same for both."""
    generator = np.random.default_rng(0)
    tables = [np.array(figures[name]["counts_of_pages"]) for name in ("published", "compressed")]
    lost = []
    for _ in range(draws):
        rows = generator.integers(0, len(tables[0]), len(tables[0]))
        before, after = (Count(*map(int, table[rows].sum(0))).f1 for table in tables)
        lost.append(100 * (before - after))
    low, high = np.quantile(lost, [0.025, 0.975]).tolist()
    value = 100 * (figures["published"]["f1"] - figures["compressed"]["f1"])
    return {"value": value, "interval": [low, high], "limit": 1.0, "kept": value <= 1.0}


def _families(fonts: list[Path]) -> dict[str, int]:
    return dict(Counter(path.stem.partition("-")[0] for path in fonts))


def _versions() -> dict[str, str]:
    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "pillow": version("pillow")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
