"""The structure of a compressed network from its plan, without decomposing anything."""

from __future__ import annotations

from torch import nn

from polyadic.errors import LayerError
from polyadic.formats import format_named
from polyadic.layers import empty_chain
from polyadic.schema import ConvSpec, Plan, Stage
from polyadic.surgery.replace import empty_like_weight, replace_layer, site_at, spec_at


def rebuild(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace every layer that ``plan`` names by its chain with uninitialised weights, in place; returns ``model``.

    A choice may name a stage of the chain of an earlier one: ``conv1``, then ``conv1.1``. So a network that was
    factorised twice is rebuilt from ``Plan((*first.choices, *second.choices))``. Of the model only geometry, dtypes and
    devices are read; it may be on the meta device.

    Raises:
        LayerError: a layer is missing, or its format or rank does not fit it.
    """
    stages = plan_stages(model, plan)  # all of them first: a plan that does not fit changes nothing
    for choice in plan.choices:
        layer, _ = spec_at(model, choice.layer)
        chain = empty_chain(stages[choice.layer], empty_like_weight(layer)).train(layer.training)
        replace_layer(model, site_at(model, choice.layer), chain)
    return model


def plan_stages(model: nn.Module, plan: Plan) -> dict[str, tuple[Stage, ...]]:
    """The chain of every layer in ``plan``, in integers, for the dense ``model``.

    Raises:
        LayerError: a layer is missing, or its format or rank does not fit it.
    """
    stages: dict[str, tuple[Stage, ...]] = {}
    for choice in plan.choices:
        spec = spec_in(model, choice.layer, stages)
        fmt = format_named(choice.format)
        fmt.check(spec, choice.rank)
        stages[choice.layer] = fmt.stages(spec, choice.rank)
    return stages


def spec_in(model: nn.Module, name: str, chains: dict[str, tuple[Stage, ...]]) -> ConvSpec:
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
