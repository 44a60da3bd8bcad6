"""Fourier transforms, the windows that go with them, and the weights of the mel scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polyadic.onnx.operators.dtypes import torch_dtype
from polyadic.onnx.operators.table import NodeFacts, Operation, operator

WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}
"""The coefficients a, b, c of a - b cos(2 pi n / N) + c cos(4 pi n / N)."""


@operator("HannWindow", "HammingWindow", "BlackmanWindow")
def window(facts: NodeFacts) -> Operation:
    """A window of cosines that is periodic or symmetric."""
    a, b, c = WINDOWS[facts.operator]
    dtype = torch_dtype(facts.attributes.get("output_datatype", 1))
    periodic = facts.attributes.get("periodic", 1)

    def run(size: Tensor) -> Tensor:
        length = int(size.item())
        angle = torch.arange(length, dtype=torch.float64) * (2 * math.pi / max(length if periodic else length - 1, 1))
        return (a - b * angle.cos() + c * (2 * angle).cos()).to(dtype).to(size.device)

    return run


@operator("DFT")
def fourier_transform(facts: NodeFacts) -> Operation:
    """The discrete Fourier transform along an axis: an attribute before version 20, an input since."""
    inverse, onesided = bool(facts.attributes.get("inverse", 0)), bool(facts.attributes.get("onesided", 0))

    def run(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        standard = facts.attributes.get("axis", 1) if facts.opset < 20 else -2
        # The last axis holds the real and the imaginary part, and is none of the transform's.
        along = (int(axis.item()) if axis is not None else standard) % x.ndim
        n = None if length is None else int(length.item())
        if inverse and onesided:
            real: Tensor = torch.fft.irfft(_complex(x), n, along)
            return real[..., None]
        if inverse:
            return torch.view_as_real(torch.fft.ifft(_complex(x), n, along))
        return _forward(x, n, along, onesided=onesided)

    return run


def _complex(x: Tensor) -> Tensor:
    return x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def _forward(x: Tensor, n: int | None, axis: int, *, onesided: bool) -> Tensor:
    """The transform, or the half of it that holds all where the signal is real."""
    if onesided and x.shape[-1] == 1:
        return torch.view_as_real(torch.fft.rfft(x[..., 0], n, axis))
    result = torch.view_as_real(torch.fft.fft(_complex(x), n, axis))
    return result.narrow(axis, 0, result.shape[axis] // 2 + 1) if onesided else result


@operator("STFT")
def short_time_transform(facts: NodeFacts) -> Operation:
    """The Fourier transforms of overlapping frames of a signal."""
    onesided = bool(facts.attributes.get("onesided", 1))

    def run(signal: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None) -> Tensor:
        size = signal.shape[1] if length is None and window is None else _frame_length(window, length)
        frames = signal.unfold(1, size, int(step.item())).transpose(2, 3)  # (samples, frames, size, 1 or 2)
        if window is not None:
            frames = frames * window[:, None]
        return _forward(frames, None, 2, onesided=onesided)

    return run


def _frame_length(window: Tensor | None, length: Tensor | None) -> int:
    if length is not None:
        return int(length.item())
    return 0 if window is None else len(window)


@operator("MelWeightMatrix")
def mel_weights(facts: NodeFacts) -> Operation:
    """The weights that sum a spectrum to triangles of equal width on the mel scale, (frequencies, triangles)."""
    dtype = torch_dtype(facts.attributes.get("output_datatype", 1))

    def run(triangles: Tensor, length: Tensor, rate: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        count, size = int(triangles.item()), int(length.item())
        lowest_mel, highest_mel = (2595 * math.log10(1 + float(f.item()) / 700) for f in (lowest, highest))
        mels = torch.arange(count + 2, dtype=torch.float64) * ((highest_mel - lowest_mel) / (count + 2)) + lowest_mel
        edges = ((size + 1) * 700 * torch.expm1(mels / 2595 * math.log(10))).div(
            int(rate.item()), rounding_mode="floor"
        )
        left, centre, right = edges[:-2], edges[1:-1], edges[2:]
        place = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None]
        rising = (place - left) / (centre - left).clamp(min=1)
        falling = (right - place) / (right - centre).clamp(min=1)
        sides = torch.where(place < centre, rising, falling).clamp(min=0)
        return torch.where(place == centre, torch.ones_like(sides), sides).to(dtype).to(triangles.device)

    return run
