"""The structure of a compressed network from its plan, without decomposing anything."""

from __future__ import annotations

from torch import nn

from polyadic.formats import format_named
from polyadic.layers import empty_chain
from polyadic.schema import ConvSpec, LayerSite, Plan
from polyadic.surgery.replace import layer_at, put


def rebuild(model: nn.Module, plan: Plan) -> nn.Module:
    """Replace every layer that ``plan`` names by its chain with uninitialised weights, in place; returns ``model``.

    Raises:
        LayerError: a layer is missing, or its format or rank does not fit it.
    """
    stages = plan_stages(model, plan)  # all of them first: a plan that does not fit changes nothing
    for choice in plan.choices:
        layer, weight, spec = layer_at(model, choice.layer)
        aliases = tuple(
            name
            for name, module in model.named_modules(remove_duplicate=False)
            if module is layer and name != choice.layer
        )
        chain = empty_chain(stages[choice.layer], weight).train(layer.training)
        put(model, LayerSite(choice.layer, type(layer).__name__, spec, aliases=aliases), chain)
    return model


def plan_stages(model: nn.Module, plan: Plan) -> dict[str, tuple[ConvSpec, ...]]:
    """The chain of every layer in ``plan``, in integers, for the dense ``model``.

    Raises:
        LayerError: a layer is missing, or its format or rank does not fit it.
    """
    stages = {}
    for choice in plan.choices:
        _, _, spec = layer_at(model, choice.layer)
        fmt = format_named(choice.format)
        fmt.check(spec, choice.rank)
        stages[choice.layer] = fmt.stages(spec, choice.rank)
    return stages
