"""Digests and captures of weights, and the bound at which a run counts as diverged."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from corners import SmallNet

from polyadic.training import Score
from polyadic.training.snapshot import capture, restore, weights_digest
from polyadic.training.trainer import divergence_bound


def test_digest_sees_values_and_not_layout(net: SmallNet) -> None:
    """One bit changes it; channels-last does not."""
    before = weights_digest(net)
    assert weights_digest(copy.deepcopy(net).to(memory_format=torch.channels_last)) == before
    with torch.no_grad():
        net.bn2.running_var[3] = math.nextafter(1.0, 2.0) + 1e-6
    assert weights_digest(net) != before


def test_restore_undoes_every_change(net: SmallNet) -> None:
    """Also into reused buffers, also across memory formats."""
    tensors = list(net.parameters())
    saved = capture(tensors)
    kept = [tensor.detach().clone() for tensor in tensors]
    assert capture(tensors, into=saved) is saved
    net.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for tensor in tensors:
            tensor.fill_(math.nan)
    restore(tensors, saved)
    assert all(torch.equal(tensor, before) for tensor, before in zip(tensors, kept, strict=True))


@pytest.mark.parametrize(("loss", "bound"), [(0.0, 1.0), (0.5, 3.0), (math.inf, 5.0)])
def test_divergence_bound_is_worse_than_guessing(loss: float, bound: float) -> None:
    """4 L + ln(classes), with the uniform guess for a loss that is not finite; here in units of ln(10)."""
    start = Score(0.5, torch.ones(2).bool(), loss * math.log(10))
    assert divergence_bound(start, 10) == pytest.approx(bound * math.log(10))
