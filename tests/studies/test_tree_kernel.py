from __future__ import annotations

import numpy as np
import pytest
import torch
from kernels import SHAPE, gaussian
from torch import nn

from polyadic.errors import LayerError
from polyadic.studies import Chain
from polyadic.studies.tree_kernel import factorise_in_place

CASES = [
    ("o", 0.5),
    ("oi", 0.3),
    ("oh", 0.3),
    ("ow", 0.5),
    ("o+i", 0.5),
    ("o+oi+w", 0.5),
    ("o+i+h+w+oh", 0.2),
    ("h", 0.4),
]


def layer(chain: Chain, share: float) -> tuple[nn.Conv2d, tuple[int, ...]]:
    ranks = chain.ranks_at(share, SHAPE)
    conv = nn.Conv2d(SHAPE[1], SHAPE[0], SHAPE[2:], bias=False).double()
    conv.weight.data.copy_(chain.truncate(gaussian(), ranks))
    return conv, ranks


@pytest.mark.parametrize(("text", "share"), CASES)
def test_the_factors_of_a_truncated_kernel_give_it_back(text: str, share: float) -> None:
    chain = Chain.parse(text)
    conv, ranks = layer(chain, share)
    before = conv.weight.detach().clone()
    factorise_in_place(conv, chain, ranks)
    torch.testing.assert_close(conv.weight, before, atol=1e-7, rtol=0)
    assert sum(parameter.numel() for parameter in conv.parameters()) == chain.parameters(ranks, SHAPE)


@pytest.mark.parametrize(("text", "share"), CASES)
def test_training_the_factors_keeps_the_ranks(text: str, share: float) -> None:
    chain = Chain.parse(text)
    conv, ranks = layer(chain, share)
    factorise_in_place(conv, chain, ranks)
    before = conv.weight.detach().clone()
    optimiser = torch.optim.SGD(conv.parameters(), lr=1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        (conv.weight - gaussian(seed=1)).square().sum().backward()
        optimiser.step()
    weight = conv.weight.detach()
    assert float((weight - before).norm()) > 1e-3
    for cut, rank in zip(chain.cuts, ranks, strict=True):
        assert np.linalg.matrix_rank(cut.matrix(weight).numpy(), tol=1e-9) <= rank


def test_crossing_cuts_have_no_factors() -> None:
    conv, ranks = layer(Chain.parse("oi+oh"), 0.5)
    with pytest.raises(LayerError, match="cuts that do not cross"):
        factorise_in_place(conv, Chain.parse("oi+oh"), ranks)
