"""``nn.MultiheadAttention`` whose projections are layers of their own, which can be replaced (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The layers of a :class:`SeparateAttention`."""


class SeparateAttention(nn.Module):
    """Attention that answers as ``nn.MultiheadAttention`` does, and calls four Linear layers where that reads weights.

    ``softmax(Q K^T / sqrt(E / h) + mask) V`` in each of ``h`` heads, between projections of queries, keys, values and
    the result. It is called as torch's module is; masks, averaged weights, samples without a batch and
    ``batch_first=False`` included. Torch's fused kernels read packed weights and leave it alone.

    Attributes:
        q_proj: queries to E, before the heads; ``k_proj``, ``v_proj`` keys and values; ``out_proj`` the result.
        num_heads: h.
        dropout: of the weights, in training.
        batch_first: whether inputs are (N, L, E) and not (L, N, E).
        in_proj_bias: None. With ``_qkv_same_embed_dim`` torch's transformers read it to see that there is no packed
            weight.
    """

    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Take copies of the weights of ``attention``, with their gradient flags."""
        super().__init__()
        self.embed_dim, self.num_heads = attention.embed_dim, attention.num_heads
        self.dropout, self.batch_first = attention.dropout, attention.batch_first
        packed, bias = attention.in_proj_weight, attention.in_proj_bias
        weights = packed.chunk(3) if packed is not None else _separate_weights(attention)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        flags = [weight.requires_grad for weight in weights], bias is None or bias.requires_grad
        self.q_proj, self.k_proj, self.v_proj = (
            _linear(weight, part, flag, flags[1]) for weight, part, flag in zip(weights, biases, flags[0], strict=True)
        )
        out = attention.out_proj
        self.out_proj = _linear(out.weight, out.bias, out.weight.requires_grad, out.weight.requires_grad)
        if out.bias is not None:
            self.out_proj.bias.requires_grad_(out.bias.requires_grad)
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``: the result, and the weights (N x L x S or N x h x L x S) where asked for.

        Raises:
            RuntimeError: ``is_causal`` without the mask that it is a hint about.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask: pass the mask too")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (each.unsqueeze(0) for each in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        q, k, v = self._heads(self.q_proj(query)), self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            scores = (q * (q.shape[-1] ** -0.5)) @ k.mT
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, dropout, self.training)
            z = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        result: Tensor = self.out_proj(z.transpose(1, 2).flatten(-2))
        if not batched:
            return result.squeeze(0), weights
        return (result if self.batch_first else result.transpose(0, 1)), weights

    def extra_repr(self) -> str:
        """What is no layer."""
        return f"num_heads={self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"

    def _heads(self, x: Tensor) -> Tensor:
        """(N, L, E) to (N, h, L, E / h)."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Both masks as one that is added to the scores (N, h, L, S): -inf where a key is not looked at."""
        mask = None
        if attn_mask is not None:
            mask = _added(attn_mask, q.dtype)
            mask = mask.reshape(-1, self.num_heads, *mask.shape[1:]) if mask.dim() == 3 else mask
        if padding is not None:
            keys = _added(padding, q.dtype)[:, None, None]
            mask = keys if mask is None else mask + keys
        return mask


def _separate_weights(attention: nn.MultiheadAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Of keys or values that are not as wide as the queries."""
    q, k, v = (attention.get_parameter(f"{name}_proj_weight") for name in "qkv")
    return q, k, v


def _linear(weight: Tensor, bias: Tensor | None, trains: bool, bias_trains: bool) -> nn.Linear:
    """A Linear of copies of a weight (T x S) and a bias (T)."""
    T, S = weight.shape
    layer = nn.Linear(S, T, bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), trains)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias_trains)
    return layer


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of booleans, True where nothing is looked at, as one that is added."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


def packed_attention(separate: SeparateAttention) -> nn.MultiheadAttention:
    """Torch's module with the weights of ``separate``, whose projections are plain Linear layers."""
    q, k, v, out = (getattr(separate, name) for name in PROJECTIONS)
    options: dict[str, Any] = {"dropout": separate.dropout, "batch_first": separate.batch_first, "device": "meta"}
    result = nn.MultiheadAttention(
        separate.embed_dim,
        separate.num_heads,
        bias=q.bias is not None,
        kdim=k.in_features,
        vdim=v.in_features,
        **options,
    )
    weights = [layer.weight for layer in (q, k, v)]
    if k.in_features == v.in_features == separate.embed_dim:
        result.in_proj_weight = nn.Parameter(torch.cat([w.detach() for w in weights]), weights[0].requires_grad)
    else:
        for name, weight in zip("qkv", weights, strict=True):
            setattr(result, f"{name}_proj_weight", weight)
    if q.bias is not None:
        result.in_proj_bias = nn.Parameter(torch.cat([each.bias.detach() for each in (q, k, v)]), q.bias.requires_grad)
    result.out_proj.weight, result.out_proj.bias = out.weight, out.bias
    return result.train(separate.training)
