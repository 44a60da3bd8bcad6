r"""Batch norm whose mean and variance are those of all processes' rows (Ioffe and Szegedy 2015, over a whole batch).

Process r holds rows x_r (n_r values a channel). With N = sum of n_r,

    mean = (1/N) sum_r n_r mean_r,
    var = (1/N) sum_r (M2_r + n_r mean_r^2) - mean^2,
    xhat = (x - mean) / sqrt(var + eps),

M2_r being the squares about a process's own mean, so that the difference is taken once, in float64, of C numbers. One
sum of 2C + 1 numbers forward and one of 2C backward:

    dx = weight / sqrt(var + eps) (dy - (1/N) sum dy - xhat (1/N) sum dy xhat),

the sums being over all rows. The gradients of weight and bias stay those of a process's own rows: they are averaged
with the other parameters'. torch's ``SyncBatchNorm`` is the same for CUDA alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from polyadic.errors import LayerError

Total = Callable[[Tensor], Tensor]
"""From a process's share to the sum of all shares."""


@final
class SharedStatistics(TorchFunctionMode):
    """While it is entered, every ``batch_norm`` in training mode takes its statistics over all processes.

    It stands at the function, not at the module, so that it also reaches layers that derive from torch's.
    """

    def __init__(self, total: Total) -> None:
        super().__init__()
        self.total = total

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take the place of ``batch_norm``; leave everything else."""
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """``torch.nn.functional.batch_norm`` of input (n, C, ...), with the rows of all processes as its batch."""
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        mean, var, count = batch_statistics(input.detach(), self.total)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)  # torch keeps the unbiased one
        scale = (var + eps).rsqrt().float()
        normalised: Tensor = _Normalise.apply(input, mean.float(), scale, weight, bias, count, self.total)  # type: ignore[no-untyped-call]
        return normalised


@torch.no_grad()
def batch_statistics(input: Tensor, total: Total) -> tuple[Tensor, Tensor, float]:
    """Mean (C,) and biased variance (C,) in float64, and the number of values a channel, over all processes.

    Args:
        input: (n, C, ...), of this process.
        total: the sum over processes.

    Raises:
        LayerError: there is one value a channel, which has no variance.
    """
    channels = input.shape[1]
    rows = input.float().transpose(0, 1).reshape(channels, -1)
    var_own, mean_own = torch.var_mean(rows, dim=1, correction=0)
    mean_own, n = mean_own.double(), rows.shape[1]
    own = torch.cat((n * mean_own, n * (var_own.double() + mean_own**2), mean_own.new_tensor([n])))
    everyone = total(own)
    first, second, count = everyone[:channels], everyone[channels:-1], everyone[-1]
    if count.item() < 2:
        raise LayerError("batch norm in training takes 2 or more values a channel; got 1: ask for larger batches")
    mean = first / count
    return mean, (second / count - mean**2).clamp_min(0), float(count)


class _Normalise(torch.autograd.Function):
    """weight (x - mean) scale + bias, mean and scale being functions of the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        mean: Tensor,
        scale: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: float,
        total: Total,
    ) -> Tensor:
        """Return (n, C, ...) in the type of ``input``."""
        ctx.save_for_backward(input, mean, scale, weight)
        ctx.count, ctx.total, ctx.biased = count, total, bias is not None
        slope = scale if weight is None else scale * weight
        offset = -mean * slope if bias is None else bias - mean * slope
        return (input.float() * _along(slope, input) + _along(offset, input)).to(input.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input, weight and bias."""
        input, mean, scale, weight = ctx.saved_tensors
        dy = grads[0].float()
        xhat = (input.float() - _along(mean, input)) * _along(scale, input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        dy_sum, dy_xhat = dy.sum(axes), (dy * xhat).sum(axes)
        dx = None
        # every process comes to this point or none: whether an input needs a gradient follows from the network alone
        if ctx.needs_input_grad[0]:
            sums = ctx.total(torch.cat((dy_sum, dy_xhat))) / ctx.count
            mean_dy, mean_dy_xhat = (_along(part, input) for part in sums.chunk(2))
            slope = scale if weight is None else scale * weight
            dx = (_along(slope, input) * (dy - mean_dy - xhat * mean_dy_xhat)).to(input.dtype)
        dweight = dy_xhat if weight is not None else None
        return dx, None, None, dweight, dy_sum if ctx.biased else None, None, None


def _along(values: Tensor, input: Tensor) -> Tensor:
    """One value (C,) a channel, in the shape that meets (n, C, ...)."""
    return values.view(1, -1, *([1] * (input.dim() - 2)))
