"""Parts of tensors taken out by their places, and put in at their places."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, Operation, operator

# By ONNX's words for what happens where several updates meet, and with the element that is there.
_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def from_the_start(indices: Tensor, size: int) -> Tensor:
    """Indices along an axis of a given size, those that count from the end counted from its start."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather")
def gather(facts: NodeFacts) -> Operation:
    """Slices along an axis, in the shape of their indices."""
    axis = facts.attributes.get("axis", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        dim = axis % x.ndim
        picked = x.index_select(dim, from_the_start(indices, x.shape[dim]).reshape(-1))
        return picked.reshape(*x.shape[:dim], *indices.shape, *x.shape[dim + 1 :])

    return run


@operator("GatherElements")
def gather_elements(facts: NodeFacts) -> Operation:
    """Elements that keep their place but along one axis."""
    axis = facts.attributes.get("axis", 0)
    return lambda x, indices: torch.gather(x, axis, from_the_start(indices, x.shape[axis]))


def _flat_place(indices: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The place of each index tuple, along the last axis, among the elements of a tensor of these sizes."""
    place = indices.new_zeros(indices.shape[:-1], dtype=torch.int64)
    for axis, size in enumerate(sizes):
        place = place * size + from_the_start(indices[..., axis], size)
    return place


@operator("GatherND")
def gather_nd(facts: NodeFacts) -> Operation:
    """Slices at index tuples, for each of the leading batches its own."""
    batch_dims = facts.attributes.get("batch_dims", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        depth = batch_dims + indices.shape[-1]
        batch, indexed, rest = x.shape[:batch_dims], x.shape[batch_dims:depth], x.shape[depth:]
        place = _flat_place(indices, tuple(indexed)).reshape(math.prod(batch), math.prod(indices.shape[batch_dims:-1]))
        offset = torch.arange(math.prod(batch), device=x.device)[:, None] * math.prod(indexed)
        slices = x.reshape(math.prod(x.shape[:depth]), *rest).index_select(0, (place + offset).flatten())
        return slices.reshape(*indices.shape[:-1], *rest)

    return run


def _scattered(x: Tensor, dim: int, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return x.scatter(dim, indices, updates)
    return x.scatter_reduce(dim, indices, updates, _REDUCE[reduction])


@operator("ScatterElements", "Scatter")
def scatter_elements(facts: NodeFacts) -> Operation:
    """The tensor with elements set, or reduced with what is there, at places along one axis."""
    axis, reduction = facts.attributes.get("axis", 0), facts.attributes.get("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        return _scattered(x, axis, from_the_start(indices, x.shape[axis]), updates, reduction)

    return run


@operator("ScatterND")
def scatter_nd(facts: NodeFacts) -> Operation:
    """The tensor with slices set, or reduced with what is there, at index tuples."""
    reduction = facts.attributes.get("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        indexed, rest = x.shape[: indices.shape[-1]], x.shape[indices.shape[-1] :]
        place = _flat_place(indices, tuple(indexed)).flatten()
        rows, width = math.prod(indexed), math.prod(rest)
        places = place[:, None].expand(place.numel(), width)
        updated = _scattered(x.reshape(rows, width), 0, places, updates.reshape(place.numel(), width), reduction)
        return updated.reshape(x.shape)

    return run


@operator("Compress")
def compress(facts: NodeFacts) -> Operation:
    """The slices along an axis, or the elements where none is named, for which a condition holds."""
    axis = facts.attributes.get("axis")

    def run(x: Tensor, condition: Tensor) -> Tensor:
        places = torch.nonzero(condition).flatten()
        return x.flatten().index_select(0, places) if axis is None else x.index_select(axis, places)

    return run


@operator("OneHot")
def one_hot(facts: NodeFacts) -> Operation:
    """Along a new axis one of two values at the index and the other elsewhere, also where the index is out of range."""
    axis = facts.attributes.get("axis", -1)

    def run(indices: Tensor, depth_input: Tensor, values: Tensor) -> Tensor:
        depth = int(depth_input.reshape(()).item())
        hit = from_the_start(indices, depth).unsqueeze(-1) == torch.arange(depth, device=indices.device)
        off, on = values.unbind()
        return torch.where(hit, on, off).movedim(-1, axis)

    return run


@operator("ReverseSequence")
def reverse_sequence(facts: NodeFacts) -> Operation:
    """The first elements of each sequence, as many as it is long, in reverse; the others stay."""
    batch_axis, time_axis = facts.attributes.get("batch_axis", 1), facts.attributes.get("time_axis", 0)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        axes = (batch_axis, time_axis)
        samples = x.movedim(axes, (0, 1))
        time = torch.arange(samples.shape[1], device=x.device)
        source = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
        batch = torch.arange(samples.shape[0], device=x.device)[:, None]
        return samples[batch, source].movedim((0, 1), axes)

    return run
