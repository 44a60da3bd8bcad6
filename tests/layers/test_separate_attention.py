"""Attention with projections of its own against torch's, which is called in the same way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyadic.layers import SeparateAttention, packed_attention

N, L, S, E, H = 2, 5, 7, 12, 3
GENERATOR = torch.Generator().manual_seed(0)


def z(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(E, H, dtype=torch.float64, **{"batch_first": True, **options})
    for name, parameter in made.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)  # torch begins with zeros, which would hide a lost bias
    return made.eval()


Q, K, V = z(N, L, E), z(N, S, E), z(N, S, E)
PADDING = torch.tensor([[False] * S, [False] * 4 + [True] * 3])
CALLS: dict[str, dict[str, Any]] = {
    "weights": {},
    "no weights": {"need_weights": False},
    "weights of each head": {"average_attn_weights": False},
    "padding": {"key_padding_mask": PADDING},
    "padding that is added": {"key_padding_mask": PADDING.double() * -3, "need_weights": False},
    "mask": {"attn_mask": torch.ones(L, S).triu(1).bool(), "need_weights": False},
    "mask that is added": {"attn_mask": z(L, S)},
    "mask for each head": {"attn_mask": z(N * H, L, S), "need_weights": False},
    "mask and padding": {"attn_mask": torch.ones(L, S).triu(1).bool(), "key_padding_mask": PADDING},
    "causal": {"attn_mask": torch.ones(L, S).triu(1).bool(), "is_causal": True, "need_weights": False},
}


def assert_same(found: tuple[Tensor, Tensor | None], wanted: tuple[Tensor, Tensor | None]) -> None:
    torch.testing.assert_close(found[0], wanted[0])
    assert (found[1] is None) == (wanted[1] is None)
    if found[1] is not None:
        torch.testing.assert_close(found[1], wanted[1])


@pytest.mark.parametrize("name", CALLS)
def test_it_answers_as_torch_does(name: str) -> None:
    dense = attention()
    assert_same(SeparateAttention(dense)(Q, K, V, **CALLS[name]), dense(Q, K, V, **CALLS[name]))


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ({"batch_first": False}, (Q.transpose(0, 1), K.transpose(0, 1), V.transpose(0, 1))),
        ({"bias": False}, (Q, K, V)),
        ({"kdim": 4, "vdim": 6}, (Q, z(N, S, 4), z(N, S, 6))),
        ({}, (Q[0], K[0], V[0])),
        ({"batch_first": False}, (Q[0], K[0], V[0])),
    ],
)
@pytest.mark.parametrize("need_weights", [True, False])
def test_layouts_and_widths_are_those_of_torch(
    options: dict[str, Any], inputs: tuple[Tensor, Tensor, Tensor], need_weights: bool
) -> None:
    dense = attention(**options)
    separate = SeparateAttention(dense)
    wanted = dense(*inputs, need_weights=need_weights)
    assert_same(separate(*inputs, need_weights=need_weights), wanted)
    packed = packed_attention(separate)
    assert packed.state_dict().keys() == dense.state_dict().keys()
    assert all(torch.equal(packed.state_dict()[name], tensor) for name, tensor in dense.state_dict().items())
    assert_same(packed(*inputs, need_weights=need_weights), wanted)


def test_a_causal_hint_without_its_mask_is_refused_as_torch_refuses_it() -> None:
    with pytest.raises(RuntimeError, match="pass the mask too"):
        SeparateAttention(attention())(Q, K, V, is_causal=True)


def test_weights_drop_out_in_training_alone() -> None:
    separate = SeparateAttention(attention(dropout=0.5))
    assert torch.equal(separate(Q, K, V)[0], separate(Q, K, V)[0])
    separate.train()
    for need_weights in (True, False):
        first, second = (separate(Q, K, V, need_weights=need_weights)[0] for _ in range(2))
        assert not torch.equal(first, second)


def test_gradient_flags_and_mode_are_kept_and_weights_are_copies() -> None:
    dense = attention().train()
    dense.in_proj_weight.requires_grad_(False)
    separate = SeparateAttention(dense)
    assert separate.training
    assert [separate.q_proj.weight.requires_grad, separate.q_proj.bias.requires_grad] == [False, True]
    assert separate.out_proj.weight.requires_grad
    before = copy.deepcopy(dense.state_dict())
    separate.q_proj.weight.data.zero_()
    separate.out_proj.weight.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.state_dict().items())
