"""Find the layers of any model that may be factorised: one traced forward pass, and one with stand-ins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from polyadic.errors import LayerError
from polyadic.layers import spec_of
from polyadic.schema import LayerSite
from polyadic.surgery.replace import swapped

Inputs = Tensor | tuple[Any, ...]


def find_sites(model: nn.Module, example_input: Inputs) -> tuple[LayerSite, ...]:
    """Every weight-bearing layer of ``model`` in the order of its modules, each a candidate or with the reason why not.

    Args:
        model: any module; it is run a few times in evaluation mode and left as it was.
        example_input: a batch (N, ...) or a tuple of arguments whose first is one.

    Raises:
        LayerError: the model does not run on the example.
    """
    layers = _named_layers(model)
    trace = _Trace({id(_weight(module)): module for _, module in layers if _weight(module) is not None})
    _run(model, example_input, [module for _, module in layers], trace)
    owners = _owners(model)
    return _rehearsed(model, example_input, tuple(_site(names, module, trace, owners) for names, module in layers))


@dataclass
class _Trace(TorchFunctionMode):
    """Records calls of layers, and uses of their weights outside their own forward pass."""

    weights: dict[int, nn.Module]
    batch: int = 1
    calls: dict[nn.Module, list[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(list))
    running: list[nn.Module] = field(default_factory=list)
    functional: dict[nn.Module, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note a weight that feeds a tensor operation, alone or in a list, while its layer is not running."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor | tuple):
            given = (*args, *(kwargs or {}).values())
            for argument in (*given, *(item for value in given if isinstance(value, list | tuple) for item in value)):
                owner = self.weights.get(id(argument))
                if owner is not None and owner not in self.running and result is not argument:
                    self.functional[owner] = getattr(func, "__name__", str(func))
        return result

    def record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a layer's forward pass: its input's spatial size, once per sample of the batch."""
        self.running.append(module)
        x = args[0] if args else next(iter(kwargs.values()), None)
        spec = spec_of(module)
        if not isinstance(x, Tensor) or spec is None:
            self.calls[module].append(())
        elif spec.axes == 0:
            self.calls[module].append((max(x.numel() // x.shape[-1] // self.batch, 1),))
        else:
            size = tuple(int(n) for n in x.shape[-spec.axes :])
            folded = x.shape[0] // self.batch if x.ndim == spec.axes + 2 else 1
            self.calls[module].extend([size] * max(folded, 1))

    def leave(self) -> None:
        """After a layer's forward pass."""
        self.running.pop()


class _Counter(nn.Module):
    """Hands its input on and counts how often it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x


def _rehearsed(model: nn.Module, example_input: Inputs, sites: tuple[LayerSite, ...]) -> tuple[LayerSite, ...]:
    """The sites, with a reason where the model does not survive, or does not notice, a chain in the layer's place."""
    candidates = [site for site in sites if site.reason is None]
    reasons = _rehearse(model, example_input, candidates)
    if reasons:  # together they say that something is wrong, one by one which
        reasons = {}
        for site in candidates:
            reasons |= _rehearse(model, example_input, [site])
    return tuple(replace(site, reason=reasons.get(site.name, site.reason)) for site in sites)


def _rehearse(model: nn.Module, example_input: Inputs, sites: list[LayerSite]) -> dict[str, str]:
    """Run the model with an ``nn.Sequential`` around each layer; what is wrong, by name."""
    counters = {site.name: _Counter() for site in sites}
    try:
        with ExitStack() as stack:
            stack.enter_context(_evaluating(model))
            stack.enter_context(torch.no_grad())
            for site in sites:
                stand_in = nn.Sequential(counters[site.name], model.get_submodule(site.name)).eval()
                stack.enter_context(swapped(model, site, stand_in))
            model(*_arguments(example_input))
    except Exception as error:  # whatever a stranger's forward raises when it meets another class
        words = next(iter(str(error).splitlines()), "")
        reason = f"the model does more with it than call it ({type(error).__name__}: {words})"
        return {site.name: reason for site in sites}
    return {
        name: "the model holds it under another reference too, where a replacement would not reach it"
        for name, counter in counters.items()
        if not counter.calls
    }


def _arguments(example_input: Inputs) -> tuple[Any, ...]:
    return example_input if isinstance(example_input, tuple) else (example_input,)


def _run(model: nn.Module, example_input: Inputs, layers: list[nn.Module], trace: _Trace) -> None:
    args = _arguments(example_input)
    first = next((argument for argument in args if isinstance(argument, Tensor)), None)
    trace.batch = int(first.shape[0]) if first is not None and first.ndim else 1
    with ExitStack() as stack:
        for module in layers:
            before = module.register_forward_pre_hook(
                lambda module, args, kwargs: trace.record(module, args, kwargs), with_kwargs=True
            )
            after = module.register_forward_hook(lambda *_: trace.leave())
            stack.callback(before.remove)
            stack.callback(after.remove)
        stack.enter_context(_evaluating(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(trace)
        try:
            model(*args)
        except Exception as error:  # whatever a stranger's forward raises
            shapes = ", ".join(str(tuple(a.shape)) for a in args if isinstance(a, Tensor))
            raise LayerError(
                f"finding layers takes one forward pass, and it failed on an example input of shape {shapes}: "
                f"{type(error).__name__}: {error}"
            ) from error


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _named_layers(model: nn.Module) -> list[tuple[tuple[str, ...], nn.Module]]:
    """Modules that hold a weight of two or more axes, each once with all its names."""
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, parametrize.ParametrizationList):  # belongs to the layer above it
            continue
        weight = _weight(module)
        if parametrize.is_parametrized(module) or (weight is not None and weight.ndim >= 2):
            names[module].append(name)
    return [(tuple(paths), module) for module, paths in names.items()]


def _weight(module: nn.Module) -> Tensor | None:
    if parametrize.is_parametrized(module):
        return None
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor):
        return weight
    own = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim >= 2]
    return own[0] if own else None


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Names under which each parameter tensor is registered, one per distinct module."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[id(parameter)].append(name)
    return owners


def _site(names: tuple[str, ...], module: nn.Module, trace: _Trace, owners: dict[int, list[str]]) -> LayerSite:
    sizes = tuple(trace.calls.get(module, ()))
    reason = _reason(names, module, trace, owners)
    return LayerSite(names[0], type(module).__name__, spec_of(module), sizes, reason, names[1:])


def _reason(names: tuple[str, ...], module: nn.Module, trace: _Trace, owners: dict[int, list[str]]) -> str | None:
    """Why no format may replace this layer; None if one may."""
    kind, weight = type(module).__name__, _weight(module)
    if parametrize.is_parametrized(module) or "weight" in vars(module):
        return "its weight is computed by a parametrisation (such as weight norm): remove that first"
    if spec_of(module) is None:
        return _unknown_kind(module)
    if names[0] == "":
        return "the model itself is this layer: wrap it in nn.Sequential"
    others = [name for name in owners[id(weight)] if name not in names]
    if others:
        return f"it shares its weight with {', '.join(others)}"
    if module in trace.functional:
        return f"its weight is also used outside the layer's own forward pass (by {trace.functional[module]})"
    if module not in trace.calls:
        return "it did not run in the traced forward pass"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "it carries hooks that a replacement would lose"
    if weight is None or not weight.is_floating_point():
        return f"a {kind} without floating-point weights has nothing to decompose"
    return None


def _unknown_kind(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return f"{kind} is not supported yet: transposed convolutions have another geometry"
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return f"{kind} is a subclass with a forward pass of its own"
    return f"{kind} is neither a convolution nor a fully connected layer"
