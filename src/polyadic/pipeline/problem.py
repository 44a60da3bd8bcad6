"""The question that a search is asked: which layers, in which formats, at which ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from polyadic.errors import BudgetError, PolyadicError
from polyadic.formats import format_named
from polyadic.pipeline.options import CompressOptions
from polyadic.schema import LayerSite
from polyadic.search import Ladder
from polyadic.surgery import layer_at
from polyadic.training import Task


def check_request(max_drop: float, formats: Sequence[str], options: CompressOptions) -> None:
    """Refuse drops out of range and formats that do not exist.

    Raises:
        PolyadicError: says which.
    """
    if not options.recoverable > 0:
        raise PolyadicError(f"recoverable is a number of times max_drop above 0; got {options.recoverable}")
    for name, points in (("max_drop", max_drop), ("eps", options.eps if options.eps is not None else 0.0)):
        if not 0.0 <= points < 100.0:
            raise PolyadicError(
                f"{name} is a number of points from 0 to below 100 (0.5 = half a percent); got {points}"
            )
    if not formats:
        raise PolyadicError("compression needs at least one format to choose from; got none")
    for name in formats:
        format_named(name)


def ladders_of(
    dense: nn.Module, sites: tuple[LayerSite, ...], formats: Sequence[str], options: CompressOptions
) -> tuple[Ladder, ...]:
    """The ranks of every candidate in every format that are cheaper than the layer itself.

    Raises:
        BudgetError: there are none.
    """
    ladders = []
    for site in sites:
        if site.reason is not None or site.spec is None or _excluded(site.name, options.exclude):
            continue
        _, weight, spec = layer_at(dense, site.name)
        for fmt in map(format_named, formats):
            if fmt.refuses(spec):
                continue
            steps = [(site.chain_macs(fmt.stages(spec, rank)), rank) for rank in fmt.ladder(weight.detach(), spec)]
            cheaper = sorted((step for step in steps if step[0] < site.macs), key=lambda step: step[0])
            if cheaper:
                macs, ranks = zip(*cheaper, strict=True)
                ladders.append(Ladder(site.name, fmt.name, ranks, macs, site.macs))
    if not ladders:
        raise BudgetError(_nothing_to_do(sites, formats))
    return tuple(ladders)


def run_digest(
    dense: nn.Module,
    task: Task,
    ladders: tuple[Ladder, ...],
    options: CompressOptions,
    max_drop: float,
    example: Tensor,
) -> str:
    """SHA-256 of everything that decides the trials: weights, data, options, geometry."""
    parts = (
        ladders,
        (max_drop, options.eps, options.recoverable, options.seed, options.data_aware, options.moment_batches),
        repr(options.search),
        repr(options.sequential),
        tuple(example.shape[1:]),
        task.provenance(),
    )
    digest = hashlib.sha256(repr(parts).encode())
    for name, tensor in sorted(dense.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _excluded(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _nothing_to_do(sites: tuple[LayerSite, ...], formats: Sequence[str]) -> str:
    reasons = sorted({site.reason for site in sites if site.reason})
    return (
        f"none of the {len(sites)} layers can be made cheaper by {', '.join(formats)}"
        + (f" ({'; '.join(reasons)})" if reasons else "")
        + ": inspect the model to see each layer's reason, or allow other formats"
    )
