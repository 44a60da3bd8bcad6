"""Attention of torch with its projections as layers of their own, so that formats can replace them, and back.

``nn.MultiheadAttention`` hands its weights to a function and calls no layer. Where a network is looked at or compressed
a :class:`polyadic.layers.SeparateAttention` stands in its place, and its projections are named after the attention:
``encoder.attn.q_proj``, ``k_proj``, ``v_proj``, ``out_proj``. It is all attentions of a network or none: what a plan
with a projection in it describes has them all separate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from polyadic.layers import (
    PROJECTIONS,
    Inputs,
    SeparateAttention,
    call_model,
    evaluation_mode,
    packed_attention,
    tensors_in,
)
from polyadic.schema import Plan
from polyadic.surgery.fast_path import Changes, leave_fast_path, unfused_attention


def why_packed(attention: nn.MultiheadAttention) -> str | None:
    """Why the projections of an attention cannot be layers of their own; None if they can."""
    if type(attention) is not nn.MultiheadAttention:
        return f"{type(attention).__name__} is a subclass of MultiheadAttention, which may attend in another way"
    if attention.bias_k is not None or attention.bias_v is not None:
        return "an attention that appends a bias to keys and values (add_bias_kv) stays as it is"
    if attention.add_zero_attn:
        return "an attention that appends zeros to keys and values (add_zero_attn) stays as it is"
    out = attention.out_proj
    if any(each._forward_hooks or each._forward_pre_hooks or each._backward_hooks for each in (attention, out)):
        return "it carries hooks that a replacement would lose"
    if hasattr(attention, "parametrizations") or hasattr(out, "parametrizations"):
        return "its weights are parametrised"
    return None


def separate_projections(model: nn.Module) -> list[tuple[str, nn.Module, Changes]]:
    """Set a :class:`SeparateAttention` in the place of every attention of ``model`` that can be one, in place.

    Returns:
        Where, what stood there, and which switches of torch's fused kernels were changed.
    """
    places = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name and isinstance(module, nn.MultiheadAttention) and why_packed(module) is None
    ]
    tied = _tied(model)
    made: dict[nn.Module, SeparateAttention] = {}
    done: list[tuple[str, nn.Module, Changes]] = []
    for name, attention in places:
        if any(id(parameter) in tied for parameter in attention.parameters()):
            continue
        made[attention] = made.get(attention) or SeparateAttention(attention)
        _set(model, name, made[attention])
        done.append((name, attention, leave_fast_path(model, name)))
    return done


def pack_projections(model: nn.Module) -> nn.Module:
    """Put torch's attention back wherever all projections are plain Linear layers, in place; returns ``model``."""
    made: dict[nn.Module, nn.MultiheadAttention] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, SeparateAttention) and all(type(getattr(module, p)) is nn.Linear for p in PROJECTIONS):
            made[module] = made.get(module) or packed_attention(module)
            _set(model, name, made[module])
    return model


def module_at(model: nn.Module, name: str) -> nn.Module:
    """The module called ``name``; of a packed attention the projection as the layer that it would be.

    Raises:
        AttributeError: there is no such module.
    """
    parent, _, leaf = name.rpartition(".")
    if leaf in PROJECTIONS:
        attention = model.get_submodule(parent)
        if isinstance(attention, nn.MultiheadAttention) and why_packed(attention) is None:
            return SeparateAttention(attention).get_submodule(leaf)
    return model.get_submodule(name)


@contextmanager
def separated(model: nn.Module, example_input: Inputs | None = None) -> Iterator[None]:
    """``model`` with separate projections for a while; with an example, only if it answers as before with them."""
    if not any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        yield
        return
    before = None if example_input is None else _answer(model, example_input)
    done = separate_projections(model)
    try:
        if done and example_input is not None and not _same(before, _answer(model, example_input)):
            _restore(model, done)
            done = []
        yield
    finally:
        _restore(model, done)


def separate_for_good(model: nn.Module, example_input: Inputs) -> None:
    """Separate the projections of ``model`` in place, if it answers as before with them."""
    if any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        before, done = _answer(model, example_input), separate_projections(model)
        if not _same(before, _answer(model, example_input)):
            _restore(model, done)


def separate_for(model: nn.Module, plan: Plan) -> None:
    """Separate the projections of ``model`` in place where ``plan`` replaces one of them, or a stage of one."""
    packed = packed_names(model)
    if any(f"{choice.layer}.".startswith(packed) for choice in plan.choices):
        separate_projections(model)


def packed_names(model: nn.Module) -> tuple[str, ...]:
    """How the names begin of what is in the projections of packed attentions."""
    packed = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return tuple(f"{name}.{projection}." for name in packed for projection in PROJECTIONS)


def is_separate(model: nn.Module, plan: Plan) -> bool:
    """Whether ``plan`` replaces something in an attention of ``model`` whose projections are separate."""
    names = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, SeparateAttention))
    return any(choice.layer.startswith(names) for choice in plan.choices)


def _tied(model: nn.Module) -> set[int]:
    """The parameters, by id, that more than one module holds."""
    seen: set[int] = set()
    tied: set[int] = set()
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                (tied if id(parameter) in seen else seen).add(id(parameter))
    return tied


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _restore(model: nn.Module, done: list[tuple[str, nn.Module, Changes]]) -> None:
    """Undo what :func:`separate_projections` did."""
    for name, attention, changes in done:
        _set(model, name, attention)
        for part, attribute, value in changes:
            setattr(part, attribute, value)


def _answer(model: nn.Module, example_input: Inputs) -> list[Tensor] | None:
    """What the model puts out in evaluation mode; None where it does not run."""
    try:
        with evaluation_mode(model), unfused_attention(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return list(tensors_in(call_model(model, example_input)))
    except Exception:  # whatever a stranger's forward raises; who looks for its layers will say it
        return None


def _same(before: list[Tensor] | None, after: list[Tensor] | None) -> bool:
    """Whether two answers agree within the rounding of their dtype."""
    if before is None or after is None or len(before) != len(after):
        return False
    return all(
        x.shape == y.shape and torch.allclose(x, y, rtol=0.0, atol=_allowed(x), equal_nan=True)
        for x, y in zip(before, after, strict=True)
    )


def _allowed(x: Tensor) -> float:
    """By how much two ways to compute ``x`` may differ: rounding grows from layer to layer, a lost mask is beyond."""
    if not x.is_floating_point():
        return 0.0
    known = x[x.isfinite()]
    return torch.finfo(x.dtype).eps ** 0.5 * float(known.abs().max()) if known.numel() else 0.0
