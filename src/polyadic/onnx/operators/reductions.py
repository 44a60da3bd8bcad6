"""Reductions of a tensor along axes, and what orders or counts its elements."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, Operation, enter_plain, operator

Axes = tuple[int, ...]
Reduction = Callable[[Tensor, Axes, bool], Tensor]


def _total(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return torch.sum(x, axes, keepdim, dtype=x.dtype)


def _mean(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keepdim)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_total(x, axes, keepdim), count, rounding_mode="trunc")


def _product(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):  # torch.prod takes one axis; from the last, those before keep their place
        x = torch.prod(x, axis, keepdim, dtype=x.dtype)
    return x


def _greatest(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return torch.amax(_with_neutral(x, axes, lowest=True), axes, keepdim)


def _least(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return torch.amin(_with_neutral(x, axes, lowest=False), axes, keepdim)


def _with_neutral(x: Tensor, axes: Axes, lowest: bool) -> Tensor:
    """The tensor, or one with the extreme value where an axis is empty: torch refuses what ONNX defines by it."""
    if all(x.shape[axis] for axis in axes):
        return x
    if x.dtype == torch.bool:
        value: float = not lowest
    elif x.is_floating_point():
        value = -torch.inf if lowest else torch.inf
    else:
        value = torch.iinfo(x.dtype).min if lowest else torch.iinfo(x.dtype).max
    return x.new_full([size or 1 if axis in axes else size for axis, size in enumerate(x.shape)], value)


def _l1(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return _total(torch.abs(x), axes, keepdim)


def _l2(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    # Unlike the root of a sum of squares it has a gradient, 0, where all elements are 0.
    norm: Tensor = torch.linalg.vector_norm(_as_float(x), 2, axes, keepdim)
    return norm.to(x.dtype)


def _log_sum(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return torch.log(_as_float(_total(x, axes, keepdim))).to(x.dtype)


def _log_sum_exp(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return torch.logsumexp(_as_float(x), axes, keepdim).to(x.dtype)


def _sum_square(x: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return _total(x * x, axes, keepdim)


def _as_float(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.float64)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _total,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": _greatest,
    "ReduceMin": _least,
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceSumSquare": _sum_square,
}


@operator(*REDUCTIONS)
def reduction(facts: NodeFacts) -> Operation:
    """A reduction along axes that an attribute or, since version 13 or 18, an input names; along all without them."""
    reduce = REDUCTIONS[facts.operator]
    keepdim = bool(facts.attributes.get("keepdims", 1))
    noop = bool(facts.attributes.get("noop_with_empty_axes", 0))
    fixed = facts.attributes.get("axes")

    def run(x: Tensor, axes_input: Tensor | None = None) -> Tensor:
        axes = fixed if axes_input is None else axes_input.tolist()
        if x.ndim == 0 or (noop and not axes):
            # Along an axis of its own every element is reduced by itself: what is no reduction, such as the logarithm
            # of ReduceLogSum, is still computed.
            return reduce(x.unsqueeze(-1), (x.ndim,), False)
        return reduce(x, tuple(axis % x.ndim for axis in axes) if axes else tuple(range(x.ndim)), keepdim)

    return run


@operator("ArgMax", "ArgMin")
def arg_extreme(facts: NodeFacts) -> Operation:
    """Where the greatest or the least element stands: the first one, or the last where ``select_last_index`` is 1."""
    find = torch.argmax if facts.operator == "ArgMax" else torch.argmin
    axis, last = facts.attributes.get("axis", 0), facts.attributes.get("select_last_index", 0)
    keepdim = bool(facts.attributes.get("keepdims", 1))

    def run(x: Tensor) -> Tensor:
        place: Tensor = find(x.flip(axis) if last else x, axis, keepdim)
        return x.shape[axis] - 1 - place if last else place

    return run


@operator("TopK")
def top_k(facts: NodeFacts) -> Operation:
    """The k greatest or least elements and where they stand, of equal ones those that come first."""
    axis, fixed = facts.attributes.get("axis", -1), facts.attributes.get("k", 0)
    largest = bool(facts.attributes.get("largest", 1))

    def run(x: Tensor, k_input: Tensor | None = None) -> tuple[Tensor, Tensor]:
        k = fixed if k_input is None else int(k_input.reshape(()).item())
        # torch.topk leaves open which of equal elements it takes.
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)

    return run


@operator("Hardmax")
def hardmax(facts: NodeFacts) -> Operation:
    """One at the first greatest element along an axis, before version 13 all axes from it on; zero elsewhere."""
    whole_rows = facts.opset < 13
    axis = facts.attributes.get("axis", 1 if whole_rows else -1)

    def run(x: Tensor) -> Tensor:
        rows = x.flatten(axis % x.ndim) if whole_rows else x.movedim(axis, -1)
        marks = torch.zeros_like(rows).scatter(-1, rows.argmax(-1, keepdim=True), 1)
        return marks.reshape(x.shape) if whole_rows else marks.movedim(-1, axis)

    return run


@operator("Unique")
def unique(facts: NodeFacts) -> Operation:
    """The different elements, or slices along an axis; where each comes first, which each is, how often it comes."""
    axis, in_order = facts.attributes.get("axis"), facts.attributes.get("sorted", 1)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        x, dim = (x.flatten(), 0) if axis is None else (x, axis % x.ndim)
        _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=dim)
        places = torch.arange(x.shape[dim], device=x.device)
        first = torch.full_like(counts, x.shape[dim]).scatter_reduce(0, inverse, places, "amin")
        if not in_order:
            order = torch.argsort(first)
            first, counts = first[order], counts[order]
            inverse = torch.argsort(order)[inverse]
        # Gathered from the input and not from torch.unique's copy, which has no gradient.
        return (x.index_select(dim, first), first, inverse, counts)[: facts.outputs]

    return run


enter_plain({"NonZero": lambda x: torch.nonzero(x).T})
