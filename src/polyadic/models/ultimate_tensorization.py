"""The networks of *Ultimate tensorization* for 32 x 32 images (Garipov, Podoprikhin, Novikov and Vetrov 2016).

Six 3 x 3 convolutions of 64, 64, 128, 128, 128 and 128 channels, each with batch norm and ReLU, and 3 x 3 max-pools of
stride 2 after the second and the fourth. ``conv`` ends in an average pool, ``conv-fc`` in layers of 1536 and 512. Every
layer but the first and the last may be a tensor train.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyadic.layers import TTLayer
from polyadic.schema import ConvSpec, Rank, TTSpec

_CHANNELS = (64, 64, 128, 128, 128, 128)
_DIGITS = {64: (4, 4, 4), 128: (4, 8, 4)}
_FEATURES = (8192, 1536, 512)
_FEATURE_DIGITS = {8192: (8, 8, 8, 16), 1536: (4, 6, 8, 8), 512: (4, 4, 4, 8)}
_HE = 2**0.5  # gain of a layer that a ReLU follows


@dataclass(frozen=True)
class TrainRanks:
    """Which layers are tensor trains; those without ranks are plain.

    The ranks of the paper go beyond what some bonds can use: ``r_0`` is at most the 9 taps of the window, ``r_2`` at
    most the 16 entries of the last pair of modes. They stand as they were counted there.

    Attributes:
        convolutions: ``r_0 ... r_{d-1}`` of the second to the sixth convolution.
        linears: ``r_1 ... r_{d-1}`` of the two hidden fully connected layers.
        naive: the kernels are trains of the modes D^2, T and S; otherwise channels are counted in digits
            (64 = 4 x 4 x 4, 128 = 4 x 8 x 4).
    """

    convolutions: tuple[Rank, ...] = ()
    linears: tuple[Rank, ...] = ()
    naive: bool = False


TT_CONV_3X = TrainRanks(((22, 20, 20), (27, 22, 22), (23, 23, 23), (23, 23, 23), (23, 23, 23)))
TT_CONV_TT_FC_42X = TrainRanks(((16, 16, 16),) * 5, ((40, 40, 40), (30, 30, 30)))
TT_CONV_TT_FC_83X = TrainRanks(((16, 16, 16),) * 5, ((20, 20, 20), (20, 20, 20)))
# The paper states the compression of its naive networks, 2.02 and 2.90, and not their ranks: these come to 2.02 and
# 2.90 with r_0 = 6, which serves trained kernels better than 9 does at the same number of parameters.
NAIVE_2X = TrainRanks(((6, 40), (6, 43), (6, 81), (6, 81), (6, 81)), naive=True)
NAIVE_3X = TrainRanks(((6, 27), (6, 30), (6, 56), (6, 56), (6, 56)), naive=True)


class UltimateTensorization(nn.Module):
    """``conv`` or ``conv-fc`` of the paper, plain or with tensor trains; input (N, 3, 32, 32), output (N, classes).

    At 10 classes and without trains 557,248 or 13,934,538 parameters, batch norm counted. Layers in front of a batch
    norm have no bias, nor has the classifier of ``conv``. The last two convolutions of ``conv`` are not padded.

    Args:
        fully_connected: ``conv-fc`` instead of ``conv``.
        ranks: which layers are tensor trains.
        classes: number of outputs.
    """

    def __init__(self, fully_connected: bool = False, ranks: TrainRanks | None = None, classes: int = 10) -> None:
        super().__init__()
        ranks = ranks or TrainRanks()
        inputs = (3, *_CHANNELS[:-1])
        trains = (None, *(ranks.convolutions or (None,) * 5))
        pads = (1, 1, 1, 1, 1, 1) if fully_connected else (1, 1, 1, 1, 0, 0)
        stages = []
        for S, T, pad, rank in zip(inputs, _CHANNELS, pads, trains, strict=True):
            stages.append(_stage("conv", _convolution(S, T, pad, rank, ranks.naive), nn.BatchNorm2d(T, 1e-3, 0.01)))
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5, self.stage6 = stages
        # It looks beyond the last pixel where none is left, as TensorFlow's "same" does for even sizes.
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        hidden = []
        if fully_connected:
            rows = zip(_FEATURES[:-1], _FEATURES[1:], ranks.linears or (None, None), strict=True)
            for S, T, rank in rows:
                hidden.append(_stage("linear", _linear(S, T, rank), nn.BatchNorm1d(T, 1e-3, 0.01)))
        self.hidden = nn.Sequential(*hidden)
        last = _FEATURES[-1] if fully_connected else _CHANNELS[-1]
        self.classifier = nn.Linear(last, classes, bias=fully_connected)
        for module in self.modules():
            if isinstance(module, TTLayer):
                module.reset_parameters(_HE)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for stage in hidden:
            if isinstance(stage.linear, nn.Linear):
                nn.init.kaiming_normal_(stage.linear.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        x = self.pool(self.stage2(self.stage1(x)))
        x = self.pool(self.stage4(self.stage3(x)))
        x = self.stage6(self.stage5(x))
        x = x if len(self.hidden) else F.adaptive_avg_pool2d(x, 1)
        logits: Tensor = self.classifier(self.hidden(torch.flatten(x, 1)))
        return logits


def _stage(name: str, layer: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict([(name, layer), ("norm", norm), ("relu", nn.ReLU())]))


def _convolution(S: int, T: int, pad: int, rank: Rank | None, naive: bool) -> nn.Module:
    if rank is None:
        return nn.Conv2d(S, T, 3, padding=pad, bias=False)
    spec = ConvSpec(S, T, kernel=(3, 3), stride=(1, 1), padding=(pad, pad), dilation=(1, 1), bias=False)
    rows, columns = ((T, 1), (1, S)) if naive else (_DIGITS[T], _DIGITS[S])
    return TTLayer(TTSpec(spec, rows, columns, rank))


def _linear(S: int, T: int, rank: Rank | None) -> nn.Module:
    if rank is None:
        return nn.Linear(S, T, bias=False)
    return TTLayer(TTSpec(ConvSpec(S, T, bias=False), _FEATURE_DIGITS[T], _FEATURE_DIGITS[S], rank))
