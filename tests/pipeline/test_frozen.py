"""A network that was frozen for inference, and calls where gradients are switched off."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from subjects import corner_task, images
from torch import nn

import polyadic
from polyadic.errors import LayerError
from polyadic.pipeline import Progress
from polyadic.schema import Choice, Plan

PLAN = Plan((Choice("stem", "tucker2", (2, 3)),))


def test_a_frozen_network_is_thawed_for_training_and_frozen_again(net: nn.Module) -> None:
    free = polyadic.compress(net, corner_task(tuned=True), plan=PLAN)
    frozen = polyadic.compress(net.requires_grad_(False), corner_task(tuned=True), plan=PLAN)
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
    for name, value in free.model.state_dict().items():
        assert torch.equal(frozen.model.state_dict()[name], value), name


@pytest.mark.parametrize("off", [torch.no_grad(), torch.inference_mode()], ids=["no_grad", "inference_mode"])
def test_without_gradients_nothing_begins(net: nn.Module, off: AbstractContextManager[None]) -> None:
    steps: list[Progress] = []
    for verb in (polyadic.compress, polyadic.find_plan):
        with off, pytest.raises(LayerError, match=r"gradients, and they are switched off \(torch\.(no_grad|inf)"):
            verb(net, corner_task(tuned=True), budget=["macs=60%"], on_progress=steps.append)
    assert steps == []
    with torch.no_grad():  # nothing is trained
        assert polyadic.compress(net, lambda _: 0.5, images(1), plan=PLAN).plan == PLAN
