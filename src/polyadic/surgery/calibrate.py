"""Batch-norm statistics for a network whose features have moved (as PARS does: Sobolev et al., Mathematics 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from polyadic.layers import Inputs, call_model, evaluation_mode, sample_count

_BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def recalibrate(model: nn.Module, batches: Iterable[Inputs]) -> None:
    """Replace every running mean and variance by the average over ``batches`` (N, ...), in place.

    Every sample counts the same, however the batches are cut. Only batch norms are put into training mode, so dropout
    and the rest behave as in use. Without a single batch the statistics stay as they are, and a network without any is
    not run.
    """
    norms = _norms_in(model)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    seen = 0
    with evaluation_mode(model), torch.no_grad():
        try:
            for batch in batches:
                count = sample_count(batch)
                seen += count
                for norm in norms:
                    if seen == count:
                        norm.reset_running_stats()
                        norm.train()
                    norm.momentum = count / seen  # mean += n / N (batch mean - mean): a weighted average
                call_model(model, batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.eval().momentum = momentum


Statistics = dict[str, tuple[Tensor, Tensor]]
"""Means and variances of every batch norm, by its name."""


def measure_statistics(model: nn.Module, batches: Iterable[Inputs]) -> Statistics:
    """What the batch norms of ``model`` see over ``batches``; those that it has stay. Empty without a batch."""
    batches = list(batches)
    if not batches:
        return {}
    with keep_statistics(model):
        recalibrate(model, batches)
        return {name: (mean.clone(), variance.clone()) for name, mean, variance, _ in _statistics(model)}


def shift_statistics(model: nn.Module, batches: Iterable[Inputs], dense: Statistics) -> None:
    """Move the statistics of ``model`` by as much as its features have moved, in place.

    ``mean += mean(batches) - dense mean(batches)``, and variances by their ratio, the ``eps`` of the batch norm added
    to each: a channel that is silent in the dense network is not blown up. A network whose features have not moved
    keeps its statistics, those of its whole training; taken anew from a few images, in the place of many with
    augmentation, they would move all answers by more than a mild compression does. What the images are cancels out, so
    few of them are enough.

    Args:
        model: with the statistics of the dense network, and layers of it replaced.
        batches: those that ``dense`` was measured on.
        dense: what the dense network sees there (:func:`measure_statistics`). Batch norms that are not in it stay.
    """
    before = {name: (mean.clone(), variance.clone()) for name, mean, variance, _ in _statistics(model)}
    recalibrate(model, batches)
    for name, mean, variance, eps in _statistics(model):
        old_mean, old_variance = before[name]
        if name in dense:
            dense_mean, dense_variance = dense[name]
            mean.add_(old_mean - dense_mean)
            variance.add_(eps).mul_((old_variance + eps) / (dense_variance + eps)).sub_(eps)
        else:
            mean.copy_(old_mean)
            variance.copy_(old_variance)


def _statistics(model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Name, mean, variance and eps of every batch norm that keeps statistics."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            yield name, module.running_mean, module.running_var, module.eps


@contextmanager
def keep_statistics(model: nn.Module) -> Iterator[None]:
    """On leaving, every batch norm has the statistics that it had before."""
    restore = _keep(model)
    try:
        yield
    finally:
        restore()


def recalibrate_if_better(
    model: nn.Module, batches: Iterable[Inputs], score: Callable[[nn.Module], float]
) -> tuple[bool, float, float]:
    """Re-estimate the statistics and keep them only if ``score`` (higher is better) rises.

    It helps networks that the decomposition hurt much and costs the others a little, so it has to be asked for.

    Returns:
        Whether they were kept, and the score before and after.
    """
    before = score(model)
    if not _norms_in(model):
        return False, before, before
    restore = _keep(model)
    recalibrate(model, batches)
    after = score(model)
    if not after > before:
        restore()
    return after > before, before, after


def _norms_in(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _keep(model: nn.Module) -> Callable[[], None]:
    """What puts the present statistics of every batch norm back."""
    saved = [(norm, name, buffer.clone()) for norm in _norms_in(model) for name, buffer in norm.named_buffers()]

    def restore() -> None:
        for norm, name, buffer in saved:
            norm.get_buffer(name).copy_(buffer)

    return restore
