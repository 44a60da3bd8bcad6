"""One forward pass of a model, watched: how often each layer runs, on what sizes, and who else reads its weight."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polyadic.errors import LayerError
from polyadic.layers import evaluation_mode
from polyadic.surgery.geometry import geometry_of

Inputs = Tensor | tuple[Any, ...]


@dataclass
class Trace(TorchFunctionMode):
    """Records calls of layers, and uses of their weights outside their own forward pass.

    Attributes:
        weights: which layer a tensor is the weight of, by the tensor's id.
        batch: samples in the example.
        sizes: spatial input size of every call of a layer, once per sample.
        runs: how often each layer was called.
        functional: the operation that read a layer's weight outside its forward pass.
        surplus: what a layer was called with beside one tensor.
    """

    weights: dict[int, nn.Module]
    batch: int = 1
    sizes: dict[nn.Module, list[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(list))
    runs: Counter[nn.Module] = field(default_factory=Counter)
    running: list[nn.Module] = field(default_factory=list)
    functional: dict[nn.Module, str] = field(default_factory=dict)
    surplus: dict[nn.Module, str] = field(default_factory=dict)

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

    def enter_layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a layer's forward pass: its input's spatial size, once per sample of the batch."""
        self.running.append(module)
        self.runs[module] += 1
        x = args[0] if args else next(iter(kwargs.values()), None)
        if len(args) + len(kwargs) != 1:
            self.surplus[module] = ", ".join(name for name in kwargs if name != "input") or f"{len(args)} arguments"
        spec = geometry_of(module)
        if not isinstance(x, Tensor) or spec is None:
            self.sizes[module].append(())
        elif spec.axes == 0:
            self.sizes[module].append((max(x.numel() // x.shape[-1] // self.batch, 1),))
        else:
            size = tuple(int(n) for n in x.shape[-spec.axes :])
            folded = x.shape[0] // self.batch if x.ndim == spec.axes + 2 else 1
            self.sizes[module].extend([size] * max(folded, 1))

    def leave_layer(self) -> None:
        """After a layer's forward pass."""
        self.running.pop()


def trace_model(
    model: nn.Module, example_input: Inputs, layers: list[nn.Module], weights: dict[int, nn.Module]
) -> Trace:
    """Run ``model`` on the example in evaluation mode and watch ``layers``.

    Raises:
        LayerError: the model does not run on the example.
    """
    args = arguments_of(example_input)
    first = next((argument for argument in args if isinstance(argument, Tensor)), None)
    trace = Trace(weights, int(first.shape[0]) if first is not None and first.ndim else 1)
    with ExitStack() as stack:
        for module in layers:
            before = module.register_forward_pre_hook(
                lambda module, args, kwargs: trace.enter_layer(module, args, kwargs), with_kwargs=True
            )
            after = module.register_forward_hook(lambda *_: trace.leave_layer())
            stack.callback(before.remove)
            stack.callback(after.remove)
        stack.enter_context(evaluation_mode(model))
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
    return trace


def arguments_of(example_input: Inputs) -> tuple[Any, ...]:
    """The arguments of a forward pass."""
    return example_input if isinstance(example_input, tuple) else (example_input,)
