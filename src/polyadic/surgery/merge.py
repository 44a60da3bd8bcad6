"""The way back from a factorised network to plain layers: each chain merged into the layer that answers the same.

So a network that was fine-tuned as chains can be factorised once more, in any format, from the kernels that it has
learnt, and its plan still names each layer once.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel
from polyadic.layers import TTLayer, kernel_of, plain_layer, spec_of, stored
from polyadic.schema import Choice, ConvSpec, Plan, Stage
from polyadic.surgery.rebuild import plan_stages, spec_in
from polyadic.surgery.replace import replace_layer, site_at
from polyadic.surgery.weights import copy_model


def merge(network: nn.Module, dense: nn.Module, plan: Plan) -> nn.Module:
    """A copy of ``network`` in which every layer that ``plan`` names is one plain layer again.

    Products are formed in float64 and rounded once, to the precision of the chain.

    Args:
        network: factorised as ``plan`` says, whatever its weights; it is left as it was.
        dense: the network before that; only its geometry is read.
        plan: layer, format, rank; stages of chains that were factorised again are merged first.

    Raises:
        LayerError: the network holds other layers than the plan's, or the plan does not fit the dense network.
    """
    stages = plan_stages(dense, plan)
    result = copy_model(network)
    for choice in reversed(plan.choices):
        spec = spec_in(dense, choice.layer, stages)
        chain = result.get_submodule(choice.layer)
        replace_layer(result, site_at(result, choice.layer), _plain(choice, chain, stages[choice.layer], spec))
    return result


def _plain(choice: Choice, chain: nn.Module, stages: tuple[Stage, ...], spec: ConvSpec) -> nn.Module:
    """The one layer that answers as ``chain`` does."""
    layers = list(chain.children())
    found = tuple(layer.spec if isinstance(layer, TTLayer) else spec_of(layer) for layer in layers)
    if found != stages:
        raise LayerError(
            f"merging takes the chains of the plan as they were made; layer {choice.layer!r} is no {choice.format} "
            f"of rank {choice.rank} any more: pass the plan that the network was factorised by"
        )
    weights = tuple(_weight(layer, stage) for layer, stage in zip(layers, stages, strict=True))
    kernel = FactoredKernel(choice.format, choice.rank, stages, weights, 0.0, "").dense_kernel()
    first = next(chain.parameters())
    plain = plain_layer(spec, first.device, first.dtype)
    with torch.no_grad():
        plain.get_parameter("weight").copy_(stored(kernel.reshape(spec.weight_shape), spec))
        if spec.bias:
            plain.get_parameter("bias").copy_(layers[-1].get_parameter("bias"))
    return plain.train(chain.training).requires_grad_(any(p.requires_grad for p in chain.parameters()))


def _weight(layer: nn.Module, stage: Stage) -> Tensor:
    """The weight of a stage in float64, as :class:`FactoredKernel` keeps it."""
    if isinstance(stage, ConvSpec):
        return kernel_of(layer.get_parameter("weight").detach().double(), stage)
    return torch.cat([core.detach().double().flatten() for core in cast(TTLayer, layer).cores])
