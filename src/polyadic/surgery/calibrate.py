"""Batch-norm statistics for a network whose features have moved (as PARS does: Sobolev et al., Mathematics 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

_Norms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every running mean and variance by the plain average over ``batches`` (N, ...), in place.

    Only batch norms are put into training mode, so dropout and the rest behave as in use.
    """
    norms = [module for module in model.modules() if isinstance(module, _Norms) and module.track_running_stats]
    kept = [(norm, norm.momentum, norm.training) for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average: every batch counts the same
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        for norm, momentum, training in kept:
            norm.momentum = momentum
            norm.train(training)


def recalibrate_if_better(
    model: nn.Module, batches: Iterable[Tensor], score: Callable[[nn.Module], float]
) -> tuple[bool, float, float]:
    """Re-estimate the statistics and keep them only if ``score`` (higher is better) does not fall.

    It lifts networks that the decomposition hurt much and harms those that it hurt little, so it has to be asked for.

    Returns:
        Whether they were kept, and the score before and after.
    """
    norms = [module for module in model.modules() if isinstance(module, _Norms) and module.track_running_stats]
    before = score(model)
    if not norms:
        return False, before, before
    statistics = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    recalibrate(model, batches)
    after = score(model)
    if after > before:
        return True, before, after
    for norm, saved in zip(norms, statistics, strict=True):
        for name, buffer in norm.named_buffers():
            buffer.copy_(saved[name])
    return False, before, after
