"""Attention, and the rotation of embeddings by their positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from polyadic.onnx.operators.dtypes import torch_dtype
from polyadic.onnx.operators.table import NodeFacts, Operation, operator


@operator("Attention")
def attention(facts: NodeFacts) -> Operation:
    """Scaled dot product attention of several heads; also the keys and values so far, and the scores or shares."""
    attributes = facts.attributes
    q_heads, kv_heads = attributes.get("q_num_heads", 1), attributes.get("kv_num_heads", 1)
    precision = attributes.get("softmax_precision")
    dtype = None if precision is None else torch_dtype(precision)
    softcap, mode = attributes.get("softcap", 0.0), attributes.get("qk_matmul_output_mode", 0)

    def run(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        flat = query.ndim == 3
        if flat:
            query, key, value = (_heads(t, n) for t, n in ((query, q_heads), (key, kv_heads), (value, kv_heads)))
        before = 0 if past_key is None else past_key.shape[2]
        key = key if past_key is None else torch.cat([past_key, key], 2)
        value = value if past_value is None else torch.cat([past_value, value], 2)
        # Where there are fewer keys than queries, several heads share one.
        shared = query.shape[1] // key.shape[1]
        k, v = (key, value) if shared == 1 else (t.repeat_interleave(shared, 1) for t in (key, value))
        scale = attributes.get("scale", 1 / math.sqrt(query.shape[3]))
        bias = _bias(facts, query, k, mask, lengths, before)
        if bias is None and facts.outputs < 4 and not softcap and dtype is None:
            y, scores = F.scaled_dot_product_attention(query, k, v, scale=scale), query
        else:
            y, scores = _attend((query * math.sqrt(scale), k * math.sqrt(scale), v), bias, softcap, dtype, mode)
        y = y.transpose(1, 2).flatten(2) if flat else y
        return y if facts.outputs == 1 else (y, key, value, scores)[: facts.outputs]

    return run


def _heads(t: Tensor, heads: int) -> Tensor:
    """(samples, length, heads size) as (samples, heads, length, size)."""
    return t.reshape(*t.shape[:2], heads, -1).transpose(1, 2)


def _bias(
    facts: NodeFacts, query: Tensor, key: Tensor, mask: Tensor | None, lengths: Tensor | None, before: int
) -> Tensor | None:
    """What is added to the scores: minus infinity where a query does not see a key. None where all see all."""
    left, right = (facts.attributes.get(f"{side}_window_size", -1) for side in ("left", "right"))
    causal = facts.attributes.get("is_causal", 0)
    allowed, added = None, torch.zeros((), dtype=query.dtype, device=query.device)
    if mask is not None:
        missing = key.shape[2] - mask.shape[-1]
        if mask.dtype == torch.bool:
            allowed = F.pad(mask, [0, missing], value=False)
        else:
            added = F.pad(mask, [0, missing], value=-math.inf)
    places = torch.arange(key.shape[2], device=query.device)
    # The last query stands where the last key does that counts.
    offset: Tensor | int = before
    if lengths is not None:
        offset = (lengths.reshape(-1, 1, 1, 1) - query.shape[2]) if before == 0 else before
        padding = places < lengths.reshape(-1, 1, 1, 1)
        allowed = padding if allowed is None else allowed & padding
    distance = torch.arange(query.shape[2], device=query.device)[:, None] + offset - places
    for limited, seen in ((causal, distance >= 0), (left >= 0, distance <= left), (right >= 0, -distance <= right)):
        if limited:
            allowed = seen if allowed is None else allowed & seen
    if allowed is None:
        return None if mask is None else added
    return torch.where(allowed, added, -math.inf)


def _attend(
    qkv: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, softcap: float, dtype: torch.dtype | None, mode: int
) -> tuple[Tensor, Tensor]:
    """The attended values; and the scores, these capped, these with the bias, or the shares, as the mode says."""
    query, key, value = qkv
    scores = query @ key.transpose(2, 3)
    capped = softcap * torch.tanh(scores / softcap) if softcap else scores
    biased = capped if bias is None else capped + bias
    # A query that sees no key takes nothing; without these zeros neither it nor a gradient would be a number.
    blind = None if bias is None else (bias == -math.inf).all(-1, keepdim=True)
    safe = biased if blind is None else biased.masked_fill(blind, 0.0)
    shares = torch.softmax(safe, -1, dtype=dtype).to(query.dtype)
    shares = shares if blind is None else shares.masked_fill(blind, 0.0)
    return shares @ value, (scores, capped, biased, shares)[mode]


@operator("RotaryEmbedding")
def rotary_embedding(facts: NodeFacts) -> Operation:
    """Pairs of elements turned by an angle that grows with their position: Su et al. 2021."""
    attributes = facts.attributes
    interleaved, heads = attributes.get("interleaved", 0), attributes.get("num_heads", 0)
    part = attributes.get("rotary_embedding_dim", 0)

    def run(x: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | None = None) -> Tensor:
        split = _heads(x, heads) if x.ndim == 3 else x
        width = part or split.shape[3]
        turned, rest = split[..., :width], split[..., width:]
        if positions is not None:
            cosines, sines = cosines[positions], sines[positions]
        cosines, sines = cosines[:, None], sines[:, None]
        a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, 3)
        real, imaginary = cosines * a - sines * b, sines * a + cosines * b
        pairs = torch.stack([real, imaginary], -1).flatten(3) if interleaved else torch.cat([real, imaginary], 3)
        y = torch.cat([pairs, rest], 3)
        return y.transpose(1, 2).flatten(2) if x.ndim == 3 else y

    return run
