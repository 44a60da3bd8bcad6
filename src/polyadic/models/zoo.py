"""The networks that Polyadic builds by name, untrained: what ``polyadic:NAME`` means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from torch import nn

from polyadic.models.plain_cnns import DigitsCnn, FourLayerCnn, Vgg16Cifar
from polyadic.models.resnets import ResNet18Cifar, ResNetCifar
from polyadic.models.ultimate_tensorization import (
    NAIVE_2X,
    NAIVE_3X,
    TT_CONV_3X,
    TT_CONV_TT_FC_42X,
    TT_CONV_TT_FC_83X,
    UltimateTensorization,
)


@dataclass(frozen=True)
class ZooModel:
    """A named network: ``build(classes)`` returns it untrained, for images of ``input_shape`` (C, H, W)."""

    build: Callable[[int], nn.Module]
    input_shape: tuple[int, int, int]


ZOO: Mapping[str, ZooModel] = MappingProxyType(
    {
        "resnet20": ZooModel(partial(ResNetCifar, 20), (3, 32, 32)),
        "resnet32": ZooModel(partial(ResNetCifar, 32), (3, 32, 32)),
        "resnet44": ZooModel(partial(ResNetCifar, 44), (3, 32, 32)),
        "resnet56": ZooModel(partial(ResNetCifar, 56), (3, 32, 32)),
        "resnet110": ZooModel(partial(ResNetCifar, 110), (3, 32, 32)),
        "vgg16-bn": ZooModel(Vgg16Cifar, (3, 32, 32)),
        "resnet18": ZooModel(ResNet18Cifar, (3, 32, 32)),
        "digits-cnn": ZooModel(DigitsCnn, (1, 8, 8)),
        "four-layer-cnn": ZooModel(FourLayerCnn, (3, 32, 32)),
        "ut-conv": ZooModel(partial(UltimateTensorization, False, None), (3, 32, 32)),
        "ut-conv-fc": ZooModel(partial(UltimateTensorization, True, None), (3, 32, 32)),
        "ut-tt-conv-3x": ZooModel(partial(UltimateTensorization, False, TT_CONV_3X), (3, 32, 32)),
        "ut-naive-2x": ZooModel(partial(UltimateTensorization, False, NAIVE_2X), (3, 32, 32)),
        "ut-naive-3x": ZooModel(partial(UltimateTensorization, False, NAIVE_3X), (3, 32, 32)),
        "ut-tt-conv-tt-fc-42x": ZooModel(partial(UltimateTensorization, True, TT_CONV_TT_FC_42X), (3, 32, 32)),
        "ut-tt-conv-tt-fc-83x": ZooModel(partial(UltimateTensorization, True, TT_CONV_TT_FC_83X), (3, 32, 32)),
    }
)
