"""What a network costs for one sample: parameters, multiply-accumulates, bytes."""

from __future__ import annotations

from torch import nn

from polyadic.errors import LayerError
from polyadic.layers import Inputs, device_of, first_samples, on_device, tensors_in
from polyadic.schema import Cost, MacCount
from polyadic.surgery.count_macs import count_macs
from polyadic.surgery.find_layers import named_layers, samples_in
from polyadic.surgery.forward_record import record_forward
from polyadic.surgery.projections import separated
from polyadic.surgery.unwrap import unwrap_model

MACS_CONVENTION = "1 MAC = one multiply-accumulate of a convolution or matrix product; FLOPs = 2 x MACs; one sample"
"""What a number of MACs stands for, wherever one is written down."""


def network_cost(model: nn.Module, example_input: Inputs) -> Cost:
    """Cost of one forward pass over the first sample of ``example_input`` (N, ...), or over a sample without a batch.

    Raises:
        LayerError: the model does not run on the example.
    """
    model = unwrap_model(model)
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_operations(model, example_input).macs,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )


def count_operations(model: nn.Module, example_input: Inputs) -> MacCount:
    """The MACs of one forward pass over the first sample of ``example_input``, by module and function.

    Projections of attention stand under the names that :func:`find_layers` gives them.
    Convolutions, matrix products, attention and recurrent layers count each multiply-accumulate once, whether a module,
    a function or a fused kernel computes them; softmax, norms, activations and additions count nothing.

    Raises:
        LayerError: the model does not run on the example.
    """
    model = unwrap_model(model)
    with separated(model, example_input):
        return _count_one(model, example_input)


def _count_one(model: nn.Module, example_input: Inputs) -> MacCount:
    try:
        return count_macs(model, first_samples(example_input, 1))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if not _is_one_sample(model, example_input):
            raise LayerError(
                "counting operations takes an input that the model accepts; it failed on shape "
                f"{', '.join(str(tuple(t.shape)) for t in tensors_in(first_samples(example_input, 1)))}: {error}"
            ) from error
        return count_macs(model, example_input)


def _is_one_sample(model: nn.Module, example_input: Inputs) -> bool:
    """Whether the model takes the example for one sample without a batch."""
    names = [names[0] for names in named_layers(model).values()]
    try:
        record = record_forward(model, on_device(example_input, device_of(model)), names)
    except LayerError:  # it takes it in no way
        return False
    return record.samples > 1 and samples_in(model, record) == 1
