"""The structure of a compressed network from its plan, and the way back to plain layers.

A chain is merged into the layer that answers the same. So a network that was fine-tuned as chains can be factorised
once more, in any format, from the kernels that it has learnt, and its plan still names each layer once.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.formats import FactoredKernel, format_named
from polyadic.layers import TTLayer, empty_chain, kernel_of, spec_of
from polyadic.schema import Choice, ConvSpec, Plan, Stage
from polyadic.surgery.plain_layers import copy_model
from polyadic.surgery.projections import separate_for
from polyadic.surgery.replace import empty_like_weight, replace_by_plain, replace_layer, site_at, spec_at, take_flags
from polyadic.surgery.unwrap import unwrap_model


def rebuild(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace every layer that ``plan`` names by its chain with uninitialised weights, in place; returns ``model``.

    A choice may name a stage of the chain of an earlier one: ``conv1``, then ``conv1.1``. So a network that was
    factorised twice is rebuilt from ``Plan((*first.choices, *second.choices))``. Of the model only geometry, dtypes,
    devices and gradient flags are read; it may be on the meta device.

    Raises:
        LayerError: a layer is missing, or its format or rank does not fit it.
    """
    model = unwrap_model(model)
    stages = plan_stages(model, plan)  # all of them first: a plan that does not fit changes nothing
    separate_for(model, plan)
    for choice in plan.choices:
        layer, _ = spec_at(model, choice.layer)
        chain = empty_chain(stages[choice.layer], empty_like_weight(layer)).train(layer.training)
        replace_layer(model, site_at(model, choice.layer), take_flags(chain, layer))
    return model


def plan_stages(model: nn.Module, plan: Plan) -> dict[str, tuple[Stage, ...]]:
    """The chain of every layer in ``plan``, in integers, for the dense ``model``.

    Raises:
        LayerError: a layer is missing, or its format or rank does not fit it.
    """
    stages: dict[str, tuple[Stage, ...]] = {}
    for choice in plan.choices:
        spec = _spec_in(model, choice.layer, stages)
        fmt = format_named(choice.format)
        fmt.check(spec, choice.rank)
        stages[choice.layer] = fmt.stages(spec, choice.rank)
    return stages


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
        spec = _spec_in(dense, choice.layer, stages)
        kernel, bias = _kernel_and_bias(choice, result.get_submodule(choice.layer), stages[choice.layer])
        replace_by_plain(result, site_at(result, choice.layer), spec, kernel.reshape(spec.weight_shape), bias)
    return result


def _spec_in(model: nn.Module, name: str, chains: dict[str, tuple[Stage, ...]]) -> ConvSpec:
    """The geometry of a layer of ``model``, or of a stage of one of the ``chains`` in the place of its layers."""
    parent, _, number = name.rpartition(".")
    if parent not in chains:
        return spec_at(model, name)[1]
    stages = chains[parent]
    stage = stages[int(number)] if number.isdecimal() and int(number) < len(stages) else None
    if not isinstance(stage, ConvSpec):
        raise LayerError(
            f"the chain of {parent!r} has {len(stages)} stages, numbered from 0, and plain ones can be factorised; "
            f"got {name!r}"
        )
    return stage


def _kernel_and_bias(choice: Choice, chain: nn.Module, stages: tuple[Stage, ...]) -> tuple[Tensor, Tensor | None]:
    """Kernel (float64) and bias of the one layer that answers as ``chain`` does."""
    layers = list(chain.children())
    found = tuple(layer.spec if isinstance(layer, TTLayer) else spec_of(layer) for layer in layers)
    if found != stages:
        raise LayerError(
            f"merging takes the chains of the plan as they were made; layer {choice.layer!r} is no {choice.format} "
            f"of rank {choice.rank} any more: pass the plan that the network was factorised by"
        )
    weights = tuple(
        kernel_of(layer.get_parameter("weight").detach().double(), stage)
        if isinstance(stage, ConvSpec)
        else torch.cat([core.detach().double().flatten() for core in cast(TTLayer, layer).cores])
        for layer, stage in zip(layers, stages, strict=True)
    )
    kernel = FactoredKernel(choice.format, choice.rank, stages, weights, 0.0, "").dense_kernel()
    return kernel, layers[-1].get_parameter("bias") if stages[-1].bias else None
