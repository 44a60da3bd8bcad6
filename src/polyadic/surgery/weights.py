"""What a layer computes with: its weight and bias, stored or computed from other parameters.

Computed are those of ``torch.nn.utils.parametrize`` (weight norm, spectral norm, orthogonal, any module of the user)
and those of the older hooks ``torch.nn.utils.weight_norm``, ``spectral_norm`` and ``prune``. They are computed anew, as
the layer does it in evaluation mode: the tensor that such a layer carries under the name of its weight may be stale.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from polyadic.errors import LayerError
from polyadic.layers import evaluation_mode
from polyadic.schema import ConvSpec
from polyadic.surgery.geometry import geometry_of

_TENSORS = ("weight", "bias")

_Hook = WeightNorm | SpectralNorm | BasePruningMethod


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a plain layer as torch stores it: its parameter, or what its parametrisation computes, detached.

    Raises:
        LayerError: says in half a sentence why there is no weight of the layer's geometry.
    """
    weight, spec = _tensor_of(layer, "weight"), geometry_of(layer)
    if weight is None:
        raise LayerError("its weight is computed by code that is no parametrisation: use torch.nn.utils.parametrize")
    if type(weight) not in (Tensor, nn.Parameter):
        raise LayerError(f"its weight is a {type(weight).__name__}, not a plain tensor")
    if spec is not None and tuple(weight.shape) != (shape := stored_shape(spec)):
        raise LayerError(f"its weight has shape {tuple(weight.shape)}, and its geometry says {shape}: make them agree")
    return weight


def bias_of(layer: nn.Module) -> Tensor | None:
    """The bias (T) of a plain layer: its parameter, or what its parametrisation computes, detached; None without one.

    Raises:
        LayerError: the parametrisation fails, or gives a bias of another shape.
    """
    bias, spec = _tensor_of(layer, "bias"), geometry_of(layer)
    if bias is not None and spec is not None and tuple(bias.shape) != (spec.out_channels,):
        raise LayerError(f"its bias has shape {tuple(bias.shape)}, and its geometry says ({spec.out_channels},)")
    return bias


def stored_shape(spec: ConvSpec) -> tuple[int, ...]:
    """Shape of the weight as torch stores it: S x T/groups x window for a transposed layer, else that of the kernel."""
    if spec.transposed:
        return (spec.in_channels, spec.out_channels // spec.groups, *spec.kernel)
    return spec.weight_shape


def parameters_behind(layer: nn.Module, name: str = "weight") -> list[nn.Parameter]:
    """The parameters that a layer's tensor is stored in or computed from; nothing is computed."""
    if parametrize.is_parametrized(layer, name):
        return list(_parametrizations(layer)[name].parameters())
    hooked = _hook_of(layer, name) is not None  # then they are called weight_g, weight_orig and the like
    own = ((key.startswith(f"{name}_") if hooked else key == name, found) for key, found in layer._parameters.items())
    return [found for fits, found in own if fits and found is not None]


def is_computed(layer: nn.Module) -> bool:
    """Whether the weight or the bias of ``layer`` is computed in each forward pass."""
    return any(parametrize.is_parametrized(layer, name) or _hook_of(layer, name) is not None for name in _TENSORS)


def foreign_hooks(layer: nn.Module) -> bool:
    """Whether ``layer`` carries hooks that do more than compute its weight or bias."""
    known = sum(_hook_of(layer, name) is not None for name in _TENSORS)
    others = (layer._forward_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return len(layer._forward_pre_hooks) > known or any(others)


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model with tensors that the older hooks have computed, which ``deepcopy`` refuses."""
    with ExitStack() as stack:
        for module in model.modules():
            for name, computed in list(vars(module).items()):
                if isinstance(computed, Tensor) and not computed.is_leaf:
                    setattr(module, name, computed.detach())
                    stack.callback(setattr, module, name, computed)
        return copy.deepcopy(model)


def _tensor_of(layer: nn.Module, name: str) -> Tensor | None:
    hook = _hook_of(layer, name)
    if hook is None and not parametrize.is_parametrized(layer, name):
        return layer._parameters.get(name)
    try:
        with torch.no_grad(), evaluation_mode(layer):
            # not getattr(layer, name): that may be stale, or kept by parametrize.cached()
            computed = _run(hook, layer) if hook is not None else _parametrizations(layer)[name]()
    except Exception as error:  # whatever a stranger's parametrisation raises
        words = next(iter(str(error).splitlines()), "")
        raise LayerError(f"the parametrisation of its {name} fails ({type(error).__name__}: {words})") from error
    if not isinstance(computed, Tensor):
        raise LayerError(f"the parametrisation of its {name} gives a {type(computed).__name__}, not a tensor")
    return computed.detach()


def _parametrizations(layer: nn.Module) -> nn.ModuleDict:
    found = layer.get_submodule("parametrizations")
    if not isinstance(found, nn.ModuleDict):
        raise TypeError("torch keeps parametrisations in a ModuleDict")
    return found


def _hook_of(layer: nn.Module, name: str) -> _Hook | None:
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == name:
            return hook
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return hook
    return None


def _run(hook: _Hook, layer: nn.Module) -> object:
    if isinstance(hook, WeightNorm):
        return hook.compute_weight(layer)
    if isinstance(hook, SpectralNorm):
        return hook.compute_weight(layer, do_power_iteration=False)
    masked: object = cast(Any, hook).apply_mask(layer)
    return masked
