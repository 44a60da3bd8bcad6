"""Count the multiply-accumulates of one pass by watching the operations that torch carries out.

Nothing is asked of the modules but their names, so what a function, a fused kernel or a scripted module computes counts
as what a layer computes. See :mod:`polyadic.surgery.mac_formulas` for the convention.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from polyadic.layers import Inputs, call_model, device_of, evaluation_mode, on_device
from polyadic.schema import CountedOperation, MacCount
from polyadic.surgery.fast_path import unfused_attention
from polyadic.surgery.mac_formulas import function_name, may_multiply, operation_macs
from polyadic.surgery.plain_layers import is_computed

_WEIGHTS = "parametrizations"  # torch's name for the modules that compute the weight of another


def count_macs(model: nn.Module, inputs: Inputs) -> MacCount:
    """The MACs of one pass of ``model`` over ``inputs`` in evaluation mode, by module and function.

    What a parametrisation, or one of the older hooks, computes to make a weight is not counted.

    Args:
        model: any module that runs; it is left as it was.
        inputs: what one pass takes, on any device.
    """
    counter = _Counter()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks: what it computes is its parent's
                continue
            before, enter, leave = (partial(what, counter, name) for what in (_prepare, _enter, _leave))
            if is_computed(module):  # the hooks that make its weight run between these two
                stack.callback(module.register_forward_pre_hook(before, prepend=True).remove)
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        for context in (evaluation_mode(model), unfused_attention(), torch.no_grad(), counter.functions, counter):
            stack.enter_context(context)
        call_model(model, on_device(inputs, device_of(model)))
    return counter.count()


def _prepare(counter: _Counter, name: str, _: nn.Module, __: object) -> None:
    counter.running.append(f"{name}.{_WEIGHTS}")


def _enter(counter: _Counter, name: str, _: nn.Module, __: object) -> None:
    if counter.running[-1:] == [f"{name}.{_WEIGHTS}"]:
        counter.running.pop()
    counter.running.append(name)


def _leave(counter: _Counter, _: str, __: nn.Module, ___: object, ____: object) -> None:
    counter.running.pop()


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums up MACs by the innermost module that runs and the function that was called there."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = []
        self.functions = _Functions()
        self.macs: dict[tuple[str, str], int] = {}
        self.unknown: dict[tuple[str, str], None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it."""
        kwargs, operation = kwargs or {}, getattr(func, "_overloadpacket", func)
        if operation is not func:  # an overload; what torch puts together from other operations is counted in parts
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        module = self.running[-1] if self.running else ""
        if _WEIGHTS in module.split("."):
            return result
        macs = operation_macs(operation, args, kwargs, result)
        key = module, self.functions.name or function_name(operation)
        if macs:
            self.macs[key] = self.macs.get(key, 0) + macs
        elif macs is None and may_multiply(operation):
            self.unknown[module, function_name(operation)] = None
        return result

    def count(self) -> MacCount:
        """What has been counted so far."""
        rows = tuple(CountedOperation(*key, macs) for key, macs in self.macs.items())
        return MacCount(rows, tuple(CountedOperation(*key, 0) for key in self.unknown))


class _Functions(TorchFunctionMode):
    """Knows by which name the model called the function of torch that is running; what that calls is part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function under its name."""
        self.name = getattr(func, "__name__", "").strip("_")
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = ""
