"""Look at any model: the layers that may be factorised.

Layers are found by one recorded forward pass and one with stand-ins.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from polyadic.errors import LayerError
from polyadic.layers import (
    Inputs,
    TTLayer,
)
from polyadic.schema import ConvSpec, LayerSite
from polyadic.surgery.forward_record import ForwardRecord, Run, record_forward
from polyadic.surgery.model_checks import check_model, check_replacement
from polyadic.surgery.plain_layers import (
    bias_of,
    check_plain,
    foreign_hooks,
    geometry_of,
    is_computed,
    kind_of,
    overridden_names,
    parameters_behind,
    weight_of,
)
from polyadic.surgery.projections import separated, why_packed
from polyadic.surgery.unwrap import unwrap_model

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SIZES = ("stride", "padding", "dilation", "padding_mode")
_BAGS = (nn.ParameterList, nn.ParameterDict)

Names = dict[nn.Module, tuple[str, ...]]


def find_layers(model: nn.Module, example_input: Inputs) -> tuple[LayerSite, ...]:
    """Every weight-bearing layer of ``model`` in the order of its modules, each a candidate or with the reason why not.

    A layer whose weight is parametrised counts as the plain layer that it is in evaluation mode. The projections of an
    ``nn.MultiheadAttention`` count as layers of their own (:mod:`polyadic.surgery.projections`).

    Args:
        model: any module; it is run a few times in evaluation mode and left as it was.
        example_input: a batch (N, ...) or a tuple of arguments whose first is one.

    Raises:
        LayerError: the model does not run on the example, is compiled, or has no weights yet.
    """
    model = unwrap_model(model)
    check_model(model)
    with separated(model, example_input):
        return find_layers_as_is(model, example_input)


def find_layers_as_is(model: nn.Module, example_input: Inputs) -> tuple[LayerSite, ...]:
    """As :func:`find_layers`, of a model whose projections of attention are what they are, and so are their names."""
    check_model(model)
    layers = named_layers(model)
    record = record_forward(model, example_input, [names[0] for names in layers.values()])
    owners, elsewhere = _owners(model), _reads_elsewhere(record, layers)
    samples = samples_in(model, record)
    sites = (
        LayerSite(
            names[0],
            kind_of(layer),
            geometry_of(layer),
            _input_sizes(record.runs.get(names[0], ()), geometry_of(layer), samples),
            _reason(names, layer, record, owners, elsewhere.get(names[0])),
            names[1:],
        )
        for layer, names in layers.items()
    )
    return check_replacement(
        model, example_input, tuple(sites), {name: len(runs) for name, runs in record.runs.items()}
    )


def named_layers(model: nn.Module) -> Names:
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


Memory = tuple[object, ...]
Owners = dict[Memory, list[str]]


def _owners(model: nn.Module) -> Owners:
    """Names of the modules that each parameter tensor belongs to; what is behind a parametrisation, to its layer."""
    owners: Owners = defaultdict(list)
    for name, module in model.named_modules():
        if not _is_behind_a_weight(name):
            for parameter in (*module._parameters.values(), *_within(module)):
                if parameter is not None:
                    owners[_memory_of(parameter)].append(name)
    return owners


def _memory_of(parameter: Tensor) -> Memory:
    """Where a parameter keeps its numbers: two that keep them in one place are tied, whether they are one or not."""
    if type(parameter) in (Tensor, nn.Parameter) and parameter.layout == torch.strided and parameter.numel():
        return parameter.device, parameter.data_ptr()
    return (id(parameter),)


def _reads_elsewhere(record: ForwardRecord, layers: Names) -> dict[str, str]:
    """By layer, which of its tensors was taken while it was not running, and by which operation."""
    stored = (
        (names[0], what, tensor)
        for layer, names in layers.items()
        for what, tensor in (("weight", _stored_weight(layer)), ("bias", layer._parameters.get("bias")))
    )
    owners = {record.numbers.of(tensor): (name, what) for name, what, tensor in stored if tensor is not None}
    found = {}
    for operation in record.operations:
        for tensor in operation.reads:
            owner, what = owners.get(tensor, (None, ""))
            if owner is None or owner in operation.within or tensor == operation.result:
                continue
            if issubclass(operation.returned, Tensor | tuple):  # also its shape; not its type or device
                found[owner] = f"its {what} is also used outside the layer's own forward pass (by {operation.name})"
    return found


def samples_in(model: nn.Module, record: ForwardRecord) -> int:
    """How many samples the example holds: one where a layer takes its first axis for the channels of a single one."""
    for name, runs in record.runs.items():
        spec = geometry_of(model.get_submodule(name))
        fits = spec is not None and spec.axes + 1 == record.axes and spec.in_channels == record.samples
        if fits and any(run.shape is not None and len(run.shape) == record.axes for run in runs):
            return 1
    return max(record.samples, 1)


def _input_sizes(runs: Iterable[Run], spec: ConvSpec | None, samples: int) -> tuple[tuple[int, ...], ...]:
    """Spatial input size of every run of a layer, once per sample: a batch folded into a larger one counts so often.

    Where the model calls the layer for each sample by itself, or for parts of the batch, these calls are one per sample
    together.
    """
    known = [run.shape for run in runs if run.shape is not None and spec is not None]
    if spec is None or not known:
        return tuple(() for _ in runs)
    calls: list[tuple[tuple[int, ...], int]]
    if spec.axes == 0:
        calls = [((1,), math.prod(shape[:-1])) for shape in known]
    else:
        calls = [(shape[-spec.axes :], shape[0] if len(shape) == spec.axes + 2 else 1) for shape in known]
    if any(count % samples for _, count in calls):
        total: dict[tuple[int, ...], int] = defaultdict(int)
        for size, count in calls:
            total[size] += count
        calls = [(size, -(-count // samples) * samples) for size, count in total.items()]
    if spec.axes == 0:
        return tuple((count // samples,) for _, count in calls)
    return tuple(size for size, count in calls for _ in range(count // samples))


def _reason(
    names: tuple[str, ...], layer: nn.Module, record: ForwardRecord, owners: Owners, elsewhere: str | None
) -> str | None:
    """Why no format may replace this layer; None if one may."""
    if geometry_of(layer) is None:
        return _unknown_kind(layer)
    if names[0] == "":
        return "the model itself is this layer: wrap it in nn.Sequential"
    for what in ("weight", "bias"):
        parts = parameters_behind(layer, what)
        others = {name: None for part in parts for name in owners[_memory_of(part)] if name not in names}
        if others:
            return f"it shares its {what} with {', '.join(others)}"
    if elsewhere is not None:
        return elsewhere
    if names[0] not in record.runs:
        return "it did not run in the traced forward pass"
    for given in (run.arguments for run in reversed(record.runs[names[0]]) if len(run.arguments) != 1):
        words = ", ".join(name for name in given if name not in ("", "input")) or f"{given.count('')} arguments"
        return f"the model calls it with more than one tensor ({words}), and a chain takes one"
    if foreign_hooks(layer):
        return "it carries hooks that a replacement would lose"
    try:
        check_plain(layer)
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
    if isinstance(module, nn.MultiheadAttention):
        return why_packed(module) or "it shares weights, or the model does more with it than call it"
    if isinstance(module, TTLayer):
        return "it is a tensor-train layer already"
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        own = overridden_names(module)
        if not own and type(module).__module__.startswith("torch.nn.modules."):
            sizes = ", ".join(f"{name}={getattr(module, name, None)!r}" for name in _SIZES)
            return f"the sizes of this {kind} are not those of a plain layer ({sizes})"
        what = "a forward pass" if {"forward", "_conv_forward"} & own or not own else ", ".join(sorted(own))
        return f"{kind} is a subclass with {what} of its own"
    return f"{kind} is neither a convolution nor a fully connected layer"
