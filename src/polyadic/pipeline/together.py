"""A network put together again from its plan and its weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from polyadic.schema import Plan
from polyadic.surgery import copy_model, rebuild


def factorised(dense: nn.Module, plan: Plan, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``dense``, factorised by ``plan``, with ``weights``; what is frozen in a layer is so in its chain."""
    network = rebuild(copy_model(dense), plan)
    network.load_state_dict(weights)
    for choice in plan.choices:
        trained = any(parameter.requires_grad for parameter in dense.get_submodule(choice.layer).parameters())
        network.get_submodule(choice.layer).requires_grad_(trained)
    return network
