"""A rank by number, by ratio or by error bound: one rule for all formats."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

from polyadic.errors import LayerError
from polyadic.formats.format import Format
from polyadic.schema import ConvSpec, Rank, chain_params


def rank_for(
    fmt: Format,
    kernel: Tensor,
    spec: ConvSpec,
    *,
    rank: int | Sequence[int] | None = None,
    ratio: float | None = None,
    error: float | None = None,
    seed: int = 0,
) -> Rank:
    """The rank of ``kernel`` (T x S/groups x window) in a format.

    Args:
        fmt: the format.
        kernel: of the layer.
        spec: its geometry.
        rank: the rank or ranks. One number serves for several: each rank is that, or the most that it can use.
        ratio: at least so many times fewer numbers than in the kernel (the bias counts on neither side).
        error: bound on ``||K - K^|| / ||K||`` of the factors, from 0 to below 1. The candidate ranks are searched by
            doubling and halving, so the error has to fall with the rank; where the spectra of the kernel leave a step
            undecided (:meth:`Format.error_bounds`), with a decomposition.
        seed: of the decompositions.

    Raises:
        LayerError: the format refuses the layer; not exactly one of the three; no rank saves that much, or none but a
            dense layer keeps the bound.
        DecompositionError: NaN or Inf weights.
    """
    fmt.check_served(spec)
    if sum(given is not None for given in (rank, ratio, error)) != 1:
        raise LayerError(f"a rank is asked for by number, ratio or error; got rank = {rank}, {ratio = }, {error = }")
    if rank is not None:
        return _by_number(fmt, spec, rank)
    candidates = fmt.candidate_ranks(kernel, spec)
    if ratio is not None:
        return _by_ratio(fmt, spec, candidates, ratio)
    return _by_error(fmt, kernel, spec, candidates, float(error or 0.0), seed)


def rank_without_kernel(
    fmt: Format, spec: ConvSpec, *, rank: int | Sequence[int] | None = None, ratio: float | None = None
) -> Rank:
    """The rank of a layer that is still to be trained, by number or ratio as in :func:`rank_for`.

    Where a ratio decides several ranks, each is the same share of the largest one.

    Raises:
        LayerError: the format refuses the layer; not exactly one of the two; no rank saves that much.
    """
    fmt.check_served(spec)
    if (rank is None) == (ratio is None):
        raise LayerError(f"the rank of an untrained layer is given by number or ratio; got {rank = }, {ratio = }")
    if rank is not None:
        return _by_number(fmt, spec, rank)
    largest = fmt.largest_rank(spec)
    most = max(largest)
    candidates = [tuple(max(1, step * r // most) for r in largest) for step in range(1, most + 1)]
    return _by_ratio(fmt, spec, candidates, float(ratio or 0.0))


def _by_number(fmt: Format, spec: ConvSpec, rank: int | Sequence[int]) -> Rank:
    if isinstance(rank, int):
        largest = fmt.largest_rank(spec)
        rank = tuple(min(rank, most) for most in largest) if len(largest) > 1 else (rank,)
    rank = tuple(rank)
    fmt.check(spec, rank)
    return rank


def _by_ratio(fmt: Format, spec: ConvSpec, candidates: list[Rank], ratio: float) -> Rank:
    if not ratio > 0:
        raise LayerError(f"a ratio of dense to factorised numbers is above 0; got {ratio}")
    bias = spec.out_channels if spec.bias else 0
    allowed = (spec.params - bias) / ratio + bias
    within = bisect_right(candidates, allowed, key=lambda rank: chain_params(fmt.stages(spec, rank)))
    if not within:
        least = chain_params(fmt.stages(spec, candidates[0])) - bias
        raise LayerError(
            f"{fmt.name} holds at least {least} numbers here, {(spec.params - bias) / least:.3g}x fewer than the "
            f"{spec.params - bias} of the layer; got ratio = {ratio:g}: ask for less"
        )
    return candidates[within - 1]


def _by_error(fmt: Format, kernel: Tensor, spec: ConvSpec, candidates: list[Rank], error: float, seed: int) -> Rank:
    if not 0 <= error < 1:
        raise LayerError(f"a bound on the relative error lies in 0 ... 1; got {error}")
    # exact at the last rank, up to the precision of the weights
    allowed = max(error, 1e-6, 8 * torch.finfo(kernel.dtype).eps)

    margin = max(1e-9, 4 * torch.finfo(kernel.dtype).eps)  # what storing the weights may add or take
    bounds = dict(zip(candidates, fmt.error_bounds(kernel, spec, candidates), strict=True))

    def kept(rank: Rank) -> bool:
        least, most = bounds[rank]
        if least > allowed + margin:
            return False
        return most <= allowed - margin or fmt.factorise(kernel, spec, rank, seed).relative_error <= allowed

    tried = 1  # cheap ranks first: the last ones can take longer than all others together
    while tried <= len(candidates) and not kept(candidates[tried - 1]):
        tried *= 2
    first = bisect_left(candidates, True, lo=tried // 2, hi=min(tried - 1, len(candidates)), key=kept)
    if first == len(candidates):
        raise LayerError(f"{fmt.name} keeps no relative error of {error:g} here at any of its {len(candidates)} ranks")
    return candidates[first]
