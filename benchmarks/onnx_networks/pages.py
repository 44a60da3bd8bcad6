"""Pages of rendered text whose lines are known: fonts, sizes, colours, backgrounds, tilt, blur, noise and JPEG."""

from __future__ import annotations

import io
import math
import pydoc_data.topics
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = tuple(dict.fromkeys(re.findall(r"\b[A-Za-z]{2,12}\b", " ".join(pydoc_data.topics.topics.values()))))
HAN = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就"
    "分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
)
HAN_FONTS = ("wqy", "noto sans cjk", "droidsansfallback")
UNUSUAL = re.compile("symbol|hairline|thin|extralight|math|mono.*oblique|black", re.IGNORECASE)
MARGIN = 24


@dataclass(frozen=True)
class Line:
    """One line of text: what it says, and where it stands before the page is tilted (left, top, right, bottom)."""

    text: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Page:
    """A picture, (H, W, 3) uint8 red first, its lines, and by how many degrees it was tilted about its middle."""

    picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    lines: tuple[Line, ...]
    tilt: float

    def upright(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture was before the page was tilted."""
        height, width = self.picture.shape[:2]
        angle = math.radians(self.tilt)
        across, down = x - width / 2, y - height / 2
        turned = across * math.cos(angle) - down * math.sin(angle), across * math.sin(angle) + down * math.cos(angle)
        return turned[0] + width / 2, turned[1] + height / 2


def fonts_in(folder: Path) -> list[Path]:
    """Fonts to read by: all files below ``folder`` but those of symbols and of hardly visible or very heavy weights."""
    found = sorted(path for kind in ("ttf", "otf", "ttc") for path in folder.rglob(f"*.{kind}"))
    return [path for path in found if not UNUSUAL.search(path.stem)]


def pages(count: int, seed: int, fonts: Sequence[Path], photographs: Sequence[Image.Image]) -> list[Page]:
    """``count`` pages drawn with ``seed``; a third of them stand on a faded photograph."""
    generator = np.random.default_rng(seed)
    return [_page(generator, fonts, photographs) for _ in range(count)]


def _page(generator: np.random.Generator, fonts: Sequence[Path], photographs: Sequence[Image.Image]) -> Page:
    width, height = int(generator.integers(480, 801)), int(generator.integers(240, 521))
    is_dark = bool(generator.random() < 0.25)
    page = _background(generator, (width, height), photographs, is_dark=is_dark)
    lines = _write(generator, page, fonts, is_dark=is_dark)
    tilt = float(generator.uniform(-3, 3)) if generator.random() < 0.5 else 0.0
    edge = tuple(int(value) for value in np.asarray(page)[0, 0])
    page = page.rotate(tilt, Image.Resampling.BICUBIC, fillcolor=edge)
    return Page(_worn(generator, page), tuple(lines), tilt)


def _background(
    generator: np.random.Generator, size: tuple[int, int], photographs: Sequence[Image.Image], *, is_dark: bool
) -> Image.Image:
    """Plain, a gradient, or a photograph with little contrast; light, or dark."""
    base = generator.uniform(0, 60, 3) if is_dark else generator.uniform(190, 255, 3)
    kind = int(generator.integers(0, 3))
    field = np.broadcast_to(base, (size[1], size[0], 3)).copy()
    if kind == 1:
        slope = np.linspace(-20, 20, size[0])[None, :, None] * np.ones((size[1], 1, 3))
        field += slope if generator.random() < 0.5 else slope[:, ::-1]
    elif kind == 2 and photographs:
        chosen = photographs[int(generator.integers(0, len(photographs)))].resize(size, Image.Resampling.BILINEAR)
        field += (np.asarray(chosen, np.float64) - 128) * generator.uniform(0.1, 0.25)
    return Image.fromarray(field.clip(0, 255).astype(np.uint8))


def _write(generator: np.random.Generator, page: Image.Image, fonts: Sequence[Path], *, is_dark: bool) -> list[Line]:
    """Fill the page from the top; each line has its own font, size, place and colour."""
    draw, lines, top = ImageDraw.Draw(page), list[Line](), MARGIN + float(generator.uniform(0, 20))
    han = [path for path in fonts if any(name in path.stem.lower() for name in HAN_FONTS)]
    latin = [path for path in fonts if path not in han]
    while True:
        is_han = bool(han) and generator.random() < 0.2
        own = han if is_han else latin
        font = _font(own[int(generator.integers(0, len(own)))], int(generator.integers(14, 45)))
        text = _fitting(generator, font, page.width - 2 * MARGIN, is_han=is_han)
        left, upper, right, lower = draw.textbbox((0, 0), text, font=font)
        if top + lower - upper > page.height - MARGIN:
            return lines
        if right - left > 12:
            x = MARGIN - left + float(generator.uniform(0, page.width - 2 * MARGIN - (right - left)))
            shade = generator.uniform(200, 255, 3) if is_dark else generator.uniform(0, 90, 3)
            draw.text((x, top - upper), text, font=font, fill=tuple(int(value) for value in shade))
            lines.append(Line(text, (x + left, top, x + right, top + lower - upper)))
        top += (lower - upper) + float(generator.uniform(10, 40))


def _fitting(generator: np.random.Generator, font: ImageFont.FreeTypeFont, room: float, *, is_han: bool) -> str:
    """Words or characters up to a length drawn at random, as many as there is room for."""
    wanted = room * float(generator.uniform(0.25, 1.0))
    text = ""
    while True:
        sign = HAN[int(generator.integers(0, len(HAN)))] if is_han else f" {_word(generator)}"
        longer = f"{text}{sign}".strip()
        if font.getlength(longer) > (wanted if text else room):
            return text
        text = longer


def _word(generator: np.random.Generator) -> str:
    kind = generator.random()
    if kind < 0.1:
        return str(int(generator.integers(0, 100_000)))
    if kind < 0.15:
        return f"{generator.uniform(0, 1000):.2f}"
    word = WORDS[int(generator.integers(0, len(WORDS)))]
    return (word.upper(), word.capitalize(), word, word, word)[int(generator.integers(0, 5))]


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def _worn(generator: np.random.Generator, page: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Blurred by up to 1.2 pixels, with noise of a deviation up to 20 of 255, saved as JPEG of 40 to 95."""
    page = page.filter(ImageFilter.GaussianBlur(float(generator.uniform(0, 1.2))))
    noisy = np.asarray(page, np.float64) + generator.normal(0, 1, (page.height, page.width, 3)) * generator.uniform(
        0, 20
    )
    saved = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(saved, "JPEG", quality=int(generator.integers(40, 96)))
    return np.array(Image.open(saved).convert("RGB"))
