"""The objective of fine-tuning: labels, and a teacher's softened answers (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyadic.training.execution import Execution


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(t / T) || softmax(s / T)), averaged over the batch.

    T^2 keeps the size of the gradient independent of the temperature (Hinton et al. 2015, section 2).

    Args:
        student: logits s (n, classes).
        teacher: logits t (n, classes); a constant.
        temperature: T above 0.
    """
    log_s, log_t = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)


def teacher_logits(teacher: nn.Module, batch: Tensor, execution: Execution) -> Tensor:
    """Return the teacher's float32 logits (n, classes) as a constant that autograd may keep."""
    with torch.inference_mode(), execution.autocast():
        logits: Tensor = teacher(batch)
    return logits.float().clone()  # a tensor born in inference mode may not be saved for backward; its clone may


def mixture_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with both labels by their weights, averaged over the batch; and that with the likelier one.

    The second one is small for every network that sees one of the two images in a mixture, however sure it is of it,
    and so it tells a network that learns from one that has diverged.

    Args:
        logits: (N, classes).
        labels: of the images, int64 (N,).
        others: of those that they are mixed with, int64 (N,).
        weights: of ``labels``, (N,), from 0 to 1.
    """
    first, second = (F.cross_entropy(logits, classes, reduction="none") for classes in (labels, others))
    return torch.lerp(second, first, weights).mean(), torch.minimum(first, second).mean()
