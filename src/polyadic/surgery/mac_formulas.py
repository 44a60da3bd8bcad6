"""Multiply-accumulates of single operations: torch's own formulas, and those of operations that torch leaves out.

The convention: one multiplication with its addition is one MAC. An attention of ``h`` heads counts ``Q K^T`` and
``A V``, ``h L S (E + F)`` for queries (L x E), keys (S x E) and values (S x F); a mask, also a causal one, saves
nothing. Softmax, norms, activations, additions, pooling, interpolation and look-ups count nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.flop_counter import flop_registry

Arguments = tuple[Any, ...]
Formula = Callable[[Arguments, Any], int]
"""From the arguments and the result of an operation to its MACs."""


def operation_macs(operation: Any, args: Arguments, kwargs: Mapping[str, Any], result: Any) -> int | None:
    """MACs of one call of an ATen or custom operation; None where there is no formula for it.

    Args:
        operation: the overload packet, such as ``torch.ops.aten.mm``.
        args: of the call, by position.
        kwargs: by name.
        result: what it returned.
    """
    own = _FORMULAS.get(str(operation))
    if own is not None:
        return own((*args, *kwargs.values()), result)
    formula = flop_registry.get(operation)
    return None if formula is None else int(formula(*args, **kwargs, out_val=result)) // 2


def may_multiply(operation: Any) -> bool:
    """Whether an operation without a formula is likely to multiply matrices: by its name, or as it is not torch's."""
    space, _, name = str(operation).partition(".")
    if space == "aten":
        return _PRODUCT.search(name) is not None and _NO_PRODUCT.search(name) is None
    return space not in _WITHOUT_PRODUCTS and str(operation) not in _CHEAP


def function_name(operation: Any) -> str:
    """The operation in words: ``scaled_dot_product_attention`` for each of its kernels, otherwise its own name."""
    name = str(operation).rpartition(".")[2].strip("_")
    return "scaled_dot_product_attention" if name.startswith("scaled_dot_product") else name


_PRODUCT = re.compile(r"mm$|mv$|conv|linear|attention|rnn|lstm|gru|fft|linalg|_dist|cdist|solve|cholesky|svd|_qr$")
_NO_PRODUCT = re.compile(r"upsample|check_errors|_norm$|_norm_|backward|_thnn_fused|linalg_cross|linalg_diag")
_WITHOUT_PRODUCTS = {"prim", "prims", "profiler", "c10d", "_c10d_functional", "inductor"}
_CHEAP = {f"torchvision.{name}" for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "qnms")}


def _attention(args: Arguments, _: Any) -> int:
    """``A V`` and ``Q K^T`` for queries (N x h x L x E), keys (N x h' x S x E), values (N x h' x S x F)."""
    q, k, v = args[:3]
    return int(math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def _fused_attention(args: Arguments, _: Any) -> int:
    """Projections and attention of queries (N x L x E), keys and values (N x S x E) in one kernel."""
    q, k, E = args[0], args[1], args[3]
    N, L, S = q.shape[0], q.shape[1], k.shape[1]
    return int(N * E * (E * (2 * L + 2 * S) + 2 * L * S))


def _fused_encoder_layer(args: Arguments, _: Any) -> int:
    """A transformer's encoder layer in one kernel: its attention, and two products with weights (F x E) and (E x F)."""
    x, E, up, down = args[0], args[1], args[14], args[16]
    N, L = x.shape[0], x.shape[1]
    return int(N * E * (4 * L * E + 2 * L * L) + N * L * (up.numel() + down.numel()))


def _recurrent_layer(args: Arguments, _: Any) -> int:
    """One layer and direction: both weights once for each step of each sample (T x N x S)."""
    return int(math.prod(args[0].shape[:-1])) * int(args[1].numel() + args[2].numel())


def _recurrent_stack(args: Arguments, _: Any) -> int:
    """All layers in one kernel: every matrix once for each step of each sample."""
    return int(math.prod(args[0].shape[:-1]) * sum(weight.numel() for weight in args[1] if weight.ndim == 2))


def _bilinear(args: Arguments, _: Any) -> int:
    """``x W_t y`` for x (N x S), W (T x S x U), y (N x U)."""
    W, y = args[1], args[2]
    return int(math.prod(y.shape[:-1])) * int(W.numel() + W.shape[0] * W.shape[1])


def _deformable(args: Arguments, result: Any) -> int:
    """As the convolution with the same weight (T x S/groups x D x D)."""
    return int(result.shape[0] * math.prod(result.shape[2:]) * args[1].numel())


def _product_of(place: int) -> Formula:
    """Of a matrix (M x K) or a stack of them at ``place`` and what follows: (K x N), or a vector (K)."""

    def macs(args: Arguments, _: Any) -> int:
        A, B = args[place], args[place + 1]
        return int(A.numel() * (B.shape[-1] if B.ndim > 1 else 1))

    return macs


_FORMULAS: Mapping[str, Formula] = {
    **{
        f"aten._scaled_dot_product_{kind}": _attention
        for kind in ("flash_attention_for_cpu", "fused_attention_overrideable", "attention_math_for_mps")
    },
    "aten._native_multi_head_attention": _fused_attention,
    "aten._transformer_encoder_layer_fwd": _fused_encoder_layer,
    "aten.mkldnn_rnn_layer": _recurrent_layer,
    "aten._cudnn_rnn": _recurrent_stack,
    "aten.miopen_rnn": _recurrent_stack,
    "aten._trilinear": _bilinear,
    "torchvision.deform_conv2d": _deformable,
    **{f"aten.{name}": _product_of(0) for name in ("mv", "dot", "vdot", "_int_mm")},
    **{f"aten.{name}": _product_of(1) for name in ("addmv", "addbmm", "_addmm_activation")},
}
