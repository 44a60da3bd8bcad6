"""Parameters, multiply-accumulates and bytes of a network for one sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from polyadic.errors import LayerError
from polyadic.layers import device_of, evaluation_mode
from polyadic.schema import Cost

MACS_CONVENTION = "1 MAC = one multiply-accumulate of a convolution or matrix product; FLOPs = 2 x MACs; one sample"
"""What a number of MACs stands for, wherever one is written down."""


def network_cost(model: nn.Module, example_input: Tensor) -> Cost:
    """Cost of one forward pass over the first sample of ``example_input`` (N, ...).

    MACs are half of what torch's own counter reports: convolutions and matrix products, each multiply-accumulate once;
    batch norm, activations and additions are not counted.

    Raises:
        LayerError: the model does not run on the example.
    """
    counter = FlopCounterMode(display=False)
    try:
        with evaluation_mode(model), torch.no_grad(), counter:
            model(example_input[:1].to(device_of(model)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise LayerError(
            f"counting operations takes an input that the model accepts; it failed on shape "
            f"{tuple(example_input[:1].shape)}: {error}"
        ) from error
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )
