"""Look at any model: the layers that may be factorised, and what the whole costs.

Layers are found by one recorded forward pass and one with stand-ins.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from polyadic.errors import LayerError
from polyadic.layers import TTLayer, device_of, evaluation_mode
from polyadic.schema import ConvSpec, Cost, LayerSite
from polyadic.surgery.forward_record import ForwardRecord, Inputs, record_forward
from polyadic.surgery.model_checks import check_model, check_replacement
from polyadic.surgery.plain_layers import (
    bias_of,
    foreign_hooks,
    geometry_of,
    is_computed,
    kind_of,
    overridden_names,
    parameters_behind,
    weight_of,
)

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BAGS = (nn.ParameterList, nn.ParameterDict)

MACS_CONVENTION = "1 MAC = one multiply-accumulate of a convolution or matrix product; FLOPs = 2 x MACs; one sample"
"""What a number of MACs stands for, wherever one is written down."""

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
    record = record_forward(model, example_input, [names[0] for names in layers.values()])
    owners, elsewhere = _owners(model), _reads_elsewhere(record, layers)
    sites = (
        LayerSite(
            names[0],
            kind_of(layer),
            geometry_of(layer),
            _input_sizes(record, names[0], geometry_of(layer)),
            _reason(names, layer, record, owners, elsewhere.get(names[0])),
            names[1:],
        )
        for layer, names in layers.items()
    )
    return check_replacement(
        model, example_input, tuple(sites), {name: len(runs) for name, runs in record.runs.items()}
    )


def network_cost(model: nn.Module, example_input: Tensor) -> Cost:
    """Cost of one forward pass over the first sample of ``example_input`` (N, ...).

    MACs are half of what torch's own counter reports: convolutions and matrix products, each multiply-accumulate once;
    batch norm, activations and additions are not counted.

    Raises:
        LayerError: the model does not run on the example.
    """
    counter = FlopCounterMode(display=False)
    try:
        with evaluation_mode(model), torch.no_grad(), counter:
            model(example_input[:1].to(device_of(model)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise LayerError(
            f"counting operations takes an input that the model accepts; it failed on shape "
            f"{tuple(example_input[:1].shape)}: {error}"
        ) from error
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )


def _named_layers(model: nn.Module) -> Names:
    """Modules that hold a weight of two or more axes, each with all its names."""
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if not _is_behind_a_weight(name) and _bears_weight(module):
            names[module].append(name)
    return {module: tuple(paths) for module, paths in names.items()}


def _is_behind_a_weight(name: str) -> bool:
    """Whether a module computes the weight of another layer: a part of that layer, not a layer by itself."""
    return "parametrizations" in name.split(".")  # torch's name for them


def _bears_weight(module: nn.Module) -> bool:
    if isinstance(module, _BAGS):  # they belong to the module above
        return False
    if callable(getattr(type(module), "weight", None)):  # quantised layers pack theirs
        return True
    stored = _stored_weight(module)
    tensors = (*_within(module), *parameters_behind(module), *(() if stored is None else (stored,)))
    return any(tensor.ndim >= 2 for tensor in tensors)


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
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        if not _is_behind_a_weight(name):
            for parameter in (*module._parameters.values(), *_within(module)):
                owners[id(parameter)].append(name)
    return owners


def _reads_elsewhere(record: ForwardRecord, layers: Names) -> dict[str, str]:
    """By layer, the operation that took its weight while the layer was not running."""
    stored = ((names[0], _stored_weight(layer)) for layer, names in layers.items())
    owners = {record.numbers.of(weight): name for name, weight in stored if weight is not None}
    found = {}
    for operation in record.operations:
        for tensor in operation.reads:
            owner = owners.get(tensor)
            if owner is None or owner in operation.within or tensor == operation.result:
                continue
            if issubclass(operation.returned, Tensor | tuple):  # also its shape; not its type or device
                found[owner] = operation.name
    return found


def _input_sizes(record: ForwardRecord, name: str, spec: ConvSpec | None) -> tuple[tuple[int, ...], ...]:
    """Spatial input size of every run of a layer, once per sample: a batch folded into a larger one counts so often."""
    sizes: list[tuple[int, ...]] = []
    for run in record.runs.get(name, ()):
        if run.shape is None or spec is None:
            sizes.append(())
        elif spec.axes == 0:
            sizes.append((max(math.prod(run.shape[:-1]) // record.samples, 1),))
        else:
            folded = run.shape[0] // record.samples if len(run.shape) == spec.axes + 2 else 1
            sizes += [run.shape[-spec.axes :]] * max(folded, 1)
    return tuple(sizes)


def _reason(
    names: tuple[str, ...], layer: nn.Module, record: ForwardRecord, owners: dict[int, list[str]], elsewhere: str | None
) -> str | None:
    """Why no format may replace this layer; None if one may."""
    if geometry_of(layer) is None:
        return _unknown_kind(layer)
    if names[0] == "":
        return "the model itself is this layer: wrap it in nn.Sequential"
    others = {name: None for part in parameters_behind(layer) for name in owners[id(part)] if name not in names}
    if others:
        return f"it shares its weight with {', '.join(others)}"
    if elsewhere is not None:
        return f"its weight is also used outside the layer's own forward pass (by {elsewhere})"
    if names[0] not in record.runs:
        return "it did not run in the traced forward pass"
    for given in (run.arguments for run in reversed(record.runs[names[0]]) if len(run.arguments) != 1):
        words = ", ".join(name for name in given if name not in ("", "input")) or f"{given.count('')} arguments"
        return f"the model calls it with more than one tensor ({words}), and a chain takes one"
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
