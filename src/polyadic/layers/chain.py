"""A factorised layer: an ``nn.Sequential`` of plain torch layers, or of one tensor-train layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel
from polyadic.layers.plain import plain_layer, stored
from polyadic.layers.tt_layer import TTLayer
from polyadic.schema import ConvSpec, Stage


def empty_chain(stages: tuple[Stage, ...], like: Tensor) -> nn.Sequential:
    """The layers of a chain with uninitialised weights, in the dtype and on the device of ``like``."""
    return nn.Sequential(*(_layer(stage, like) for stage in stages))


def filled_chain(factored: FactoredKernel, bias: Tensor | None, like: Tensor) -> nn.Sequential:
    """The layers of a factored kernel; ``bias`` (T) goes to the last stage.

    Shapes: as the dense layer, (N, S, ...) to (N, T, ...).

    Raises:
        LayerError: a bias is missing or too many.
    """
    if (bias is not None) != factored.stages[-1].bias:
        raise LayerError(
            f"a chain takes a bias exactly where its last stage has one ({factored.stages[-1].bias}); "
            f"got {'none' if bias is None else 'one'}"
        )
    chain = empty_chain(factored.stages, like)
    with torch.no_grad():
        for layer, stage, weight in zip(chain, factored.stages, factored.weights, strict=True):
            if isinstance(stage, ConvSpec):
                layer.get_parameter("weight").copy_(stored(weight, stage))
            else:
                cast(TTLayer, layer).load_flat(weight)
        if bias is not None:
            chain[-1].get_parameter("bias").copy_(bias)
    return chain


def _layer(stage: Stage, like: Tensor) -> nn.Module:
    if isinstance(stage, ConvSpec):
        return plain_layer(stage, like.device, like.dtype)
    return TTLayer(stage, like.device, like.dtype)
