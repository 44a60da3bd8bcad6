"""A layer of any model as the plain layer that it is: its geometry, its weight and its bias.

They are seen through subclasses that change nothing of them, and through parametrisations: those of
``torch.nn.utils.parametrize`` (weight norm, spectral norm, orthogonal, any module of the user) and the older hooks
``torch.nn.utils.weight_norm``, ``spectral_norm`` and ``prune``. What these compute is computed anew, as the layer does
it in evaluation mode: the tensor that such a layer carries under the name of its weight may be stale.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from polyadic.errors import LayerError
from polyadic.layers import evaluation_mode, spec_of, torch_weight_shape
from polyadic.schema import ConvSpec

_TENSORS = ("weight", "bias")

_Hook = WeightNorm | SpectralNorm | BasePruningMethod

# What a subclass may define anew without another forward pass, another state or other weights.
_INERT = {
    *("__init__", "__doc__", "__module__", "__dict__", "__weakref__", "__annotations__", "__annotate__"),
    *("__annotations_cache__", "__annotate_func__", "__firstlineno__", "__static_attributes__", "__constants__"),
    *("__repr__", "extra_repr", "_get_name", "reset_parameters"),
}


def geometry_of(layer: nn.Module) -> ConvSpec | None:
    """The plain layer that ``layer`` is, in integers; None if it is none. No parametrisation is run.

    A subclass counts as the class of torch that it inherits from if it defines nothing of that class anew but how it is
    made, reset and printed.
    """
    if type(layer).__module__.startswith("torch.nn.modules."):
        return spec_of(layer)
    base = _torch_class(layer)
    return None if base is None or overridden_names(layer) else spec_of(_as(base, layer))


def overridden_names(layer: nn.Module) -> set[str]:
    """The names of torch's layer that the class of ``layer`` defines anew, such as ``forward``."""
    kind, base = parametrize.type_before_parametrizations(layer), _torch_class(layer)
    if base is None:
        return set()
    own = {name for part in kind.__mro__[: kind.__mro__.index(base)] for name in vars(part)}
    return own & ({*dir(base), *vars(layer), "weight", "bias"} - _INERT)


def check_plain(layer: nn.Module) -> None:
    """Refuse a layer of a plain layer's class and geometry that computes something else, as far as one can read it.

    Raises:
        LayerError: says in half a sentence which method was replaced on the instance, or what it pads by instead.
    """
    for name in replaced_methods(layer):
        what = "its forward pass" if name == "forward" else f"its {name}"
        raise LayerError(f"{what} was replaced by another function, which a replacement would lose")
    spec, kept = geometry_of(layer), getattr(layer, "_reversed_padding_repeated_twice", None)
    if spec is not None and spec.padding_mode != "zeros" and kept is not None and list(kept) != spec.pads:
        raise LayerError(
            f"it pads by {list(kept)}, as it was made, and its padding and dilation now say {spec.pads}: make it anew"
        )


def replaced_methods(layer: nn.Module) -> list[str]:
    """The methods of the layer's class, such as ``_conv_forward``, that this one instance has another function for."""
    kind = type(layer)
    return [name for name in vars(layer) if name not in _INERT and callable(getattr(kind, name, None))]


def kind_of(module: nn.Module) -> str:
    """Name of the module's class, "Conv2d" also where torch made it a "ParametrizedConv2d"."""
    return str(parametrize.type_before_parametrizations(module).__name__)


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a plain layer as torch stores it: its parameter, or what its parametrisation computes, detached.

    Raises:
        LayerError: says in half a sentence why there is no weight of the layer's geometry.
    """
    weight, spec = _tensor_of(layer, "weight"), geometry_of(layer)
    if weight is None and layer._buffers.get("weight") is not None:
        raise LayerError("its weight is a buffer, which is not trained, and a chain would have parameters instead")
    if weight is None:
        raise LayerError("its weight is computed by code that is no parametrisation: use torch.nn.utils.parametrize")
    if type(weight) not in (Tensor, nn.Parameter):
        raise LayerError(f"its weight is a {type(weight).__name__}, not a plain tensor")
    if spec is not None and tuple(weight.shape) != (shape := torch_weight_shape(spec)):
        raise LayerError(f"its weight has shape {tuple(weight.shape)}, and its geometry says {shape}: make them agree")
    return weight


def bias_of(layer: nn.Module) -> Tensor | None:
    """The bias (T) of a plain layer: its parameter, or what its parametrisation computes, detached; None without one.

    Raises:
        LayerError: the parametrisation fails, or gives a bias of another shape; or the bias is no parameter.
    """
    bias, spec = _tensor_of(layer, "bias"), geometry_of(layer)
    if bias is None and spec is not None and spec.bias:
        what = "a buffer" if layer._buffers.get("bias") is not None else "computed by code that is no parametrisation"
        raise LayerError(f"its bias is {what}, and that of a chain is a parameter")
    if bias is not None and type(bias) not in (Tensor, nn.Parameter):
        raise LayerError(f"its bias is a {type(bias).__name__}, not a plain tensor")
    if bias is not None and spec is not None and tuple(bias.shape) != (spec.out_channels,):
        raise LayerError(f"its bias has shape {tuple(bias.shape)}, and its geometry says ({spec.out_channels},)")
    return bias


def parameters_behind(layer: nn.Module, name: str = "weight") -> list[nn.Parameter]:
    """The parameters that a layer's tensor is stored in or computed from; nothing is computed."""
    if parametrize.is_parametrized(layer, name):
        return list(_parametrizations(layer)[name].parameters())
    hooked = _hook_for(layer, name) is not None  # then they are called weight_g, weight_orig and the like
    own = ((key.startswith(f"{name}_") if hooked else key == name, found) for key, found in layer._parameters.items())
    return [found for fits, found in own if fits and found is not None]


def is_computed(layer: nn.Module) -> bool:
    """Whether the weight or the bias of ``layer`` is computed in each forward pass."""
    return any(parametrize.is_parametrized(layer, name) or _hook_for(layer, name) is not None for name in _TENSORS)


def foreign_hooks(layer: nn.Module) -> bool:
    """Whether ``layer`` carries hooks that do more than compute its weight or bias."""
    known = sum(_hook_for(layer, name) is not None for name in _TENSORS)
    others = (layer._forward_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return len(layer._forward_pre_hooks) > known or any(others)


def require_module(model: object) -> nn.Module:
    """``model`` itself; what is named, listed or held by something else where a network is meant is refused.

    Raises:
        LayerError: it is no module.
    """
    if isinstance(model, nn.Module):
        return model
    kind = model.__name__ if isinstance(model, type) else type(model).__name__
    advice = "pass the network itself"
    if isinstance(model, type):
        advice = f"make one, {kind}(...)"
    elif isinstance(getattr(model, "model", None), nn.Module):
        advice = "it holds one, pass its .model"
    elif isinstance(model, str | Path):
        advice = (
            f"polyadic.models.load_model({str(model)!r}, weights=...).model builds it, polyadic.load opens a result"
        )
    raise LayerError(f"a network is a torch.nn.Module; got {kind}: {advice}")


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model with tensors that the older hooks have computed, which ``deepcopy`` refuses.

    Raises:
        LayerError: it is no module.
    """
    require_module(model)
    with ExitStack() as stack:
        for module in model.modules():
            for name, computed in list(vars(module).items()):
                if isinstance(computed, Tensor) and not computed.is_leaf:
                    setattr(module, name, computed.detach())
                    stack.callback(setattr, module, name, computed)
        return copy.deepcopy(model)


def _torch_class(layer: nn.Module) -> type[nn.Module] | None:
    """The first class of ``torch.nn`` that the layer inherits from."""
    kinds = parametrize.type_before_parametrizations(layer).__mro__
    return next((kind for kind in kinds if kind.__module__.startswith("torch.nn.modules.")), None)


def _as(kind: type[nn.Module], layer: nn.Module) -> nn.Module:
    """The attributes of ``layer`` as those of another class of module; a parametrised bias is an empty one there."""
    computed = {"bias": nn.Parameter()} if parametrize.is_parametrized(layer, "bias") else {}
    view = kind.__new__(kind)
    vars(view).update(vars(layer), _parameters={**layer._parameters, **computed}, _modules={})
    return view


def _tensor_of(layer: nn.Module, name: str) -> Tensor | None:
    hook = _hook_for(layer, name)
    if hook is None and not parametrize.is_parametrized(layer, name):
        return layer._parameters.get(name)
    try:
        with torch.no_grad(), evaluation_mode(layer):
            # not getattr(layer, name): that may be stale, or kept by parametrize.cached()
            if hook is None:
                computed = _parametrizations(layer)[name]()
            elif isinstance(hook, BasePruningMethod):
                computed = cast(Any, hook).apply_mask(layer)
            elif isinstance(hook, SpectralNorm):
                computed = hook.compute_weight(layer, do_power_iteration=False)
            else:
                computed = hook.compute_weight(layer)
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


def _hook_for(layer: nn.Module, name: str) -> _Hook | None:
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == name:
            return hook
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return hook
    return None
