"""Find the layers of any model that may be factorised: one traced forward pass, and one with stand-ins."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from polyadic.errors import LayerError
from polyadic.layers import TTLayer
from polyadic.schema import LayerSite
from polyadic.surgery.geometry import geometry_of, kind_of, overridden_names
from polyadic.surgery.model_checks import check_model
from polyadic.surgery.replacement_check import check_replacement
from polyadic.surgery.trace import Inputs, Trace, trace_model
from polyadic.surgery.weights import bias_of, foreign_hooks, is_computed, parameters_behind, weight_of

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BAGS = (nn.ParameterList, nn.ParameterDict)

Names = dict[nn.Module, tuple[str, ...]]


def find_layers(model: nn.Module, example_input: Inputs) -> tuple[LayerSite, ...]:
    """Every weight-bearing layer of ``model`` in the order of its modules, each a candidate or with the reason why not.

    A layer whose weight is parametrised counts as the plain layer that it is in evaluation mode.

    Args:
        model: any module; it is run a few times in evaluation mode and left as it was.
        example_input: a batch (N, ...) or a tuple of arguments whose first is one.

    Raises:
        LayerError: the model does not run on the example, is compiled, or has no weights yet.
    """
    check_model(model)
    layers = _named_layers(model)
    weights = {id(weight): layer for layer in layers if isinstance(weight := _stored_weight(layer), Tensor)}
    trace = trace_model(model, example_input, list(layers), weights)
    owners = _owners(model)
    sites = (
        LayerSite(
            names[0],
            kind_of(layer),
            geometry_of(layer),
            tuple(trace.sizes.get(layer, ())),
            _reason(names, layer, trace, owners),
            names[1:],
        )
        for layer, names in layers.items()
    )
    return check_replacement(model, example_input, tuple(sites), trace.runs)


def _named_layers(model: nn.Module) -> Names:
    """Modules that hold a weight of two or more axes, each with all its names."""
    within = _within_parametrisations(model)
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if name not in within and _bears_weight(module):
            names[module].append(name)
    return {module: tuple(paths) for module, paths in names.items()}


def _within_parametrisations(model: nn.Module) -> set[str]:
    """Paths of what computes the weights of other layers: parts of those layers, not layers by themselves."""
    within = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(module):
            top = f"{name}.parametrizations" if name else "parametrizations"
            part = module.get_submodule("parametrizations")
            within |= {f"{top}.{leaf}".rstrip(".") for leaf, _ in part.named_modules(remove_duplicate=False)}
    return within


def _bears_weight(module: nn.Module) -> bool:
    if isinstance(module, _BAGS):  # they belong to the module above
        return False
    if callable(getattr(type(module), "weight", None)):  # quantised layers pack theirs
        return True
    stored = _stored_weight(module)
    behind = (*_within(module), *parameters_behind(module))
    return any(tensor.ndim >= 2 for tensor in (behind if stored is None else (*behind, stored)))


def _within(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of the parametrisations of ``module``."""
    return list(module.get_submodule("parametrizations").parameters()) if parametrize.is_parametrized(module) else []


def _stored_weight(module: nn.Module) -> Tensor | None:
    """The tensor called weight, or the first parameter of two or more axes; None where the weight is computed."""
    if is_computed(module):
        return None
    for tensors in (module._parameters, module._buffers, vars(module)):
        if isinstance(weight := tensors.get("weight"), Tensor):
            return weight
    bags = (bag for bag in module.children() if isinstance(bag, _BAGS))
    own = (parameter for part in (module, *bags) for parameter in part.parameters(recurse=False))
    return next((parameter for parameter in own if parameter.ndim >= 2), None)


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Names of the modules that each parameter tensor belongs to; what is behind a parametrisation, to its layer."""
    within = _within_parametrisations(model)
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        if name in within:
            continue
        for parameter in (*module._parameters.values(), *_within(module)):
            if parameter is not None:
                owners[id(parameter)].append(name)
    return owners


def _reason(names: tuple[str, ...], layer: nn.Module, trace: Trace, owners: dict[int, list[str]]) -> str | None:
    """Why no format may replace this layer; None if one may."""
    if geometry_of(layer) is None:
        return _unknown_kind(layer)
    if names[0] == "":
        return "the model itself is this layer: wrap it in nn.Sequential"
    others = {name: None for part in parameters_behind(layer) for name in owners[id(part)] if name not in names}
    if others:
        return f"it shares its weight with {', '.join(others)}"
    if layer in trace.functional:
        return f"its weight is also used outside the layer's own forward pass (by {trace.functional[layer]})"
    if layer not in trace.runs:
        return "it did not run in the traced forward pass"
    if layer in trace.surplus:
        return f"the model calls it with more than one tensor ({trace.surplus[layer]}), and a chain takes one"
    if foreign_hooks(layer):
        return "it carries hooks that a replacement would lose"
    if "forward" in vars(layer):
        return "its forward pass was replaced by another function, which a replacement would lose"
    try:
        weight, _ = weight_of(layer), bias_of(layer)
    except LayerError as error:
        return str(error)
    if weight.dtype not in _FLOATS:
        return f"a {kind_of(layer)} without floating-point weights has nothing to decompose"
    return None


def _unknown_kind(module: nn.Module) -> str:
    kind = kind_of(module)
    if type(module).__module__.startswith("torch.ao."):
        return f"{kind} is quantised: factorise the network first and quantise it then"
    if isinstance(module, TTLayer):
        return "it is a tensor-train layer already"
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        own = overridden_names(module)
        what = "a forward pass" if {"forward", "_conv_forward"} & own or not own else ", ".join(sorted(own))
        return f"{kind} is a subclass with {what} of its own"
    return f"{kind} is neither a convolution nor a fully connected layer"
