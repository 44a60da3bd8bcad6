"""Networks for sound: M5 on raw waveforms (Dai et al. 2017) and a stack of dilated convolutions after WaveNet."""

from __future__ import annotations

from torch import Tensor, nn


class M5(nn.Module):
    """Waveforms (N, 1, samples) to class scores (N, classes): one long window, then short ones."""

    def __init__(self, width: int = 64, classes: int = 35) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_block(1, width, 80, stride=4),
            *_block(width, width, 3),
            *_block(width, 2 * width, 3),
            *_block(2 * width, 4 * width, 3),
        )
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, samples) to (N, classes)."""
        scores: Tensor = self.head(self.pool(self.body(x)).flatten(1))
        return scores


class DilatedStack(nn.Module):
    """Waveforms (N, 1, samples) to the same: gated causal convolutions of dilation 1, 2, 4, ..., weight-normed."""

    def __init__(self, width: int = 32, layers: int = 6) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.weight_norm
        self.stem = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList(
            normed(nn.Conv1d(width, 2 * width, 2, dilation=2**at, padding=2**at)) for at in range(layers)
        )
        self.mixes = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, samples) to (N, 1, samples)."""
        x = self.stem(x)
        for gate, mix in zip(self.gates, self.mixes, strict=True):
            signal, opening = gate(x)[..., : x.shape[-1]].chunk(2, dim=1)  # the past alone: causal
            x = x + mix(signal.tanh() * opening.sigmoid())
        sound: Tensor = self.head(x)
        return sound


def _block(S: int, T: int, window: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv1d(S, T, window, stride=stride), nn.BatchNorm1d(T), nn.ReLU(), nn.MaxPool1d(4)
