"""VDSR (Kim et al. 2016): super-resolution by twenty 3 x 3 layers, one network for three scales; PSNR on Set5."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from trained.packed import photographs

SCALES = (2, 3, 4)


class _Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class VDSR(nn.Module):
    """(N, 1, H, W), the luminance of the enlarged image in 0..1, to the same, sharper."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.residual_layer = nn.Sequential(*(_Convolution() for _ in range(18)))
        self.output = nn.Conv2d(64, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The image plus what it lacks."""
        added: Tensor = x + self.output(self.residual_layer(F.relu(self.input(x))))
        return added


def network(folder: Path) -> nn.Module:
    """As its authors' reimplementation trained it (MIT)."""
    model = VDSR()
    model.load_state_dict(load_file(folder / "vdsr.safetensors"))
    return model.eval()


def luminance(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Y of YCbCr in 16..235, not rounded."""
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def samples(folder: Path, count: int, patch: int = 56) -> Tensor:
    """(N, 1, P, P): one crop of each of ``count`` photographs, reduced and enlarged by 2, 3 and 4 in turn."""
    generator = np.random.default_rng(0)
    crops = []
    for number, image in enumerate(photographs(folder, count)):
        scale = SCALES[number % 3]
        width, height = (side // scale * scale for side in image.size)
        image = image.crop((0, 0, width, height))
        small = image.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
        enlarged = luminance(np.array(small.resize((width, height), Image.Resampling.BICUBIC)))
        top, left = (int(generator.integers(0, side - patch + 1)) for side in enlarged.shape)
        crops.append(enlarged[top : top + patch, left : left + patch] / 255)
    return torch.tensor(np.stack(crops), dtype=torch.float32)[:, None]


class Set5:
    """The five images at every scale: PSNR on Y, a border as wide as the scale cut off."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "superres_set5.npz", allow_pickle=False) as packed:
            data, offsets, names = packed["png"], packed["offsets"], [str(name) for name in packed["names"]]
        images = {
            name: luminance(np.array(Image.open(io.BytesIO(data[a:b].tobytes())).convert("RGB")))
            for name, a, b in zip(names, offsets[:-1], offsets[1:], strict=True)
        }
        self.pairs: dict[int, list[tuple[Tensor, Tensor]]] = {scale: [] for scale in SCALES}
        for name, enlarged in images.items():
            stem, _, kind = name.rpartition("_")
            if kind != "hr":
                high = images[f"{stem}_hr"][: enlarged.shape[0], : enlarged.shape[1]]
                self.pairs[int(kind[1:])].append((torch.tensor(enlarged), torch.tensor(high)))

    def psnr(self, model: nn.Module, scale: int) -> Tensor:
        """(5,) in dB."""
        values = []
        with torch.inference_mode():
            for enlarged, high in self.pairs[scale]:
                given = (enlarged / 255).float()[None, None]
                sharp = model(given)[0, 0].double().clamp(0, 1) * 255
                inside = (slice(scale, -scale), slice(scale, -scale))
                squares = (sharp - high)[inside].square().mean()
                values.append(10 * torch.log10(255**2 / squares))
        return torch.stack(values)

    def score(self, model: nn.Module) -> dict[str, Tensor]:
        """PSNR of every image, by scale."""
        return {f"PSNR x{scale}": self.psnr(model, scale) for scale in SCALES}


def example_input() -> Tensor:
    """What is timed."""
    return torch.zeros(1, 1, 256, 256)
