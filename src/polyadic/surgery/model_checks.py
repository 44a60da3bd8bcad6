"""What is refused of a whole model before anything runs; and whether it survives, and notices, a chain for a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from polyadic.errors import LayerError, PolyadicError
from polyadic.layers import Inputs, apply_weight, call_model, evaluation_mode, kernel_of
from polyadic.schema import ConvSpec, LayerSite
from polyadic.surgery.fast_path import unfused_attention
from polyadic.surgery.plain_layers import bias_of, geometry_of, require_module, weight_of
from polyadic.surgery.replace import swap_layer


def check_model(model: nn.Module) -> None:
    """Refuse a model whose layers cannot be read or replaced.

    Raises:
        LayerError: it is compiled, scripted or exported, or weights are lazy or on the meta device.
    """
    require_module(model)
    for name, module in model.named_modules():
        fixed = _fixed_by(module)
        if fixed is not None:
            raise LayerError(
                f"layers are found in a model of plain modules; {name or 'the model'!r} is fixed by {fixed}: pass the "
                "module that it was made of, and compile or export the result"
            )
    check_loaded(model)


def check_loaded(model: nn.Module) -> None:
    """Refuse weights that hold no numbers.

    Raises:
        LayerError: names the first one.
    """
    require_module(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise LayerError(f"{name!r} has no shape before the first forward pass: run the model once on an example")
        if tensor.is_meta:
            raise LayerError(f"{name!r} is on the meta device and holds no numbers: load the weights first")


def check_finite(model: nn.Module) -> None:
    """Refuse a model with NaN or Inf weights, or with none yet, before anything is computed from it.

    Raises:
        PolyadicError: names the first such tensor.
    """
    check_loaded(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise PolyadicError(
                    f"compression needs finite weights; {name!r} has {bad} NaN or Inf of {tensor.numel()}: "
                    "load weights that trained to the end"
                )


def check_replacement(
    model: nn.Module, example_input: Inputs, sites: tuple[LayerSite, ...], runs: Mapping[str, int]
) -> tuple[LayerSite, ...]:
    """The sites, with a reason where the model does not survive, or does not notice, a chain in the layer's place.

    A plain layer has one, too, where it puts out something else than its weight, bias and geometry say.

    Args:
        model: runs on the example.
        example_input: as in :func:`polyadic.surgery.find_layers`.
        sites: those without a reason are tried.
        runs: how often each layer was called without stand-ins.
    """
    candidates = [site for site in sites if site.reason is None]
    expected = {site.name: runs[site.name] for site in candidates}
    broken, reasons = _run_with_stand_ins(model, example_input, candidates, expected)
    if broken:  # together they say that something is wrong, one by one which
        for site in candidates:
            broken, different = _run_with_stand_ins(model, example_input, [site], expected)
            reasons |= different | broken
    return tuple(replace(site, reason=reasons.get(site.name, site.reason)) for site in sites)


class _Counter(nn.Module):
    """Hands its input on, counts how often it was asked to, and keeps the first input until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.first: Any = None

    def forward(self, x: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            self.first = x
        return x


class _Comparison(nn.Module):
    """Hands the output of a layer on; of the first run it looks whether it is what the layer's kernel says."""

    def __init__(self, layer: nn.Module, counter: _Counter) -> None:
        super().__init__()
        self.layers = [layer]  # in a list: it is no module of the stand-in twice
        self.counter = counter
        self.difference: str | None = None

    def forward(self, y: Any) -> Any:
        x, self.counter.first = self.counter.first, None
        spec = geometry_of(self.layers[0])
        if x is not None and spec is not None:
            self.difference = _difference_from_kernel(self.layers[0], spec, x, y)
        return y


def _difference_from_kernel(layer: nn.Module, spec: ConvSpec, x: Any, y: Any) -> str | None:
    """How the output ``y`` of a layer for ``x`` differs from what its weight, bias and geometry say; None if it agrees.

    One sample is looked at. An input that is the same at every position, such as an image of zeros, would hide a wrong
    border or window: the layer then runs once more, on waves.
    """
    try:
        if x.ndim == spec.axes + 2 or (spec.axes == 0 and x.ndim > 1):
            x, y = x[:1], y[:1]
        if torch.equal(x, x[(..., *[slice(0, 1)] * max(spec.axes, 1))].expand_as(x)):
            x = torch.arange(x.numel(), device=x.device, dtype=torch.float32).sin().to(x.dtype).reshape(x.shape)
            y = layer(x)
        weight = weight_of(layer)
        z = apply_weight(spec, weight, bias_of(layer), x)
        if y.shape != z.shape:
            return f"it puts out {tuple(y.shape)} for {tuple(x.shape)}, and its geometry says {tuple(z.shape)}"
        worst, allowed = _largest_difference(y, z), _allowed_difference(x, kernel_of(weight, spec), z)
    except Exception as error:  # whatever torch raises of sizes that do not fit
        words = next(iter(str(error).splitlines()), "")
        return f"its weight and geometry do not run on its input ({type(error).__name__}: {words})"
    if worst <= allowed or not math.isfinite(allowed):
        return None
    return f"what it puts out is not what its weight and geometry say (up to {worst:.2g} off)"


def _largest_difference(y: Tensor, z: Tensor) -> float:
    known = y.isfinite() & z.isfinite()
    return float((y - z)[known].abs().max()) if bool(known.any()) else 0.0


def _allowed_difference(x: Tensor, kernel: Tensor, z: Tensor) -> float:
    """By how much two ways to compute ``z`` from ``x`` may differ.

    Rounding is in proportion to the largest output, and so are products in TF32; the error of a sum is in proportion to
    what is summed up, ``|x| sum |K[t]|``, which may be much more than the sum itself.
    """
    exact = torch.promote_types(z.dtype, torch.float32)
    coarse = max(torch.finfo(dtype).eps for dtype in (z.dtype, kernel.dtype))
    if z.is_cuda and z.dtype != torch.float64:
        coarse = max(coarse, 2.0**-10)
    summed = torch.linalg.vector_norm(kernel.flatten(1), 1, 1, dtype=exact).max() * x.abs().max()
    finite = z[z.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return 8 * coarse * largest + 32 * torch.finfo(exact).eps * float(summed)


def _run_with_stand_ins(
    model: nn.Module, example_input: Inputs, sites: list[LayerSite], expected: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, str]]:
    """Run the model with an ``nn.Sequential`` around each layer.

    Returns:
        By name, what keeps a chain from taking a layer's place; and how a layer differs from its kernel.
    """
    counters = {site.name: _Counter() for site in sites}
    comparisons = {name: _Comparison(model.get_submodule(name), counter) for name, counter in counters.items()}
    try:
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(model))
            stack.enter_context(unfused_attention())
            stack.enter_context(torch.no_grad())
            for site in sites:
                parts = counters[site.name], model.get_submodule(site.name), comparisons[site.name]
                stand_in = nn.Sequential(*parts).eval()
                stack.enter_context(swap_layer(model, site, stand_in))
            call_model(model, example_input)
    except Exception as error:  # whatever a stranger's forward raises when it meets another class
        words = next(iter(str(error).splitlines()), "")
        reason = f"the model does more with it than call it ({type(error).__name__}: {words})"
        return {site.name: reason for site in sites}, {}
    lost = {
        name: "the model holds it under another reference too, where a replacement would not reach it"
        for name, counter in counters.items()
        if counter.calls < expected[name]
    }
    return lost, {name: each.difference for name, each in comparisons.items() if each.difference is not None}


def _fixed_by(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "torch.jit"
    # by name: importing torch._dynamo takes seconds, and a model that it has not wrapped does not need it
    if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
        return "torch.compile"
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):  # a mode that cannot be changed any more
        return "torch.export"
    return None
