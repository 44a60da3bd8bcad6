"""What people pass by mistake, refused before anything long begins: one sentence that says what to pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.errors import DataError, LayerError, first_words
from polyadic.layers import (
    Inputs,
    call_model,
    change_tensors,
    device_of,
    evaluation_mode,
    first_samples,
    on_device,
    sample_count,
    sample_shapes,
    tensors_in,
)

Loss = Callable[[Any, Any], Tensor]
"""Of the outputs and a batch as the loader gave it."""


def check_function(given: object, what: str) -> None:
    """Refuse what cannot be called with two arguments; None is nothing given.

    Args:
        given: by the user.
        what: how it is called, such as "loss(outputs, batch)".

    Raises:
        DataError: it is no function, or one of another number of arguments.
    """
    if given is None:
        return
    if not callable(given) or isinstance(given, type):
        came = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise DataError(f"{what} is a function of two arguments; got {came}: pass a function, or a lambda")
    try:
        inspect.signature(given).bind(None, None)
    except TypeError as error:
        raise DataError(
            f"{what} is called with these two; got a function {inspect.signature(given)}: let it take both"
        ) from error
    except ValueError:  # built in, so that nothing is known of its arguments
        return


def check_inputs(network: nn.Module, inputs: Inputs, where: str) -> None:
    """Refuse inputs that the network cannot be judged by.

    Args:
        network: whose inputs they are.
        inputs: what goes in of one batch.
        where: what the batch is called.

    Raises:
        DataError: no samples, another number format, NaN or Inf.
    """
    tensors = list(tensors_in(inputs))
    if not any(tensor.dim() > 1 for tensor in tensors) or not sample_count(inputs):
        came = ", ".join(f"a tensor of shape {tuple(tensor.shape)}" for tensor in tensors) or "no tensor"
        raise DataError(
            f"what goes into the network is a tensor (N, ...), or several; {where} has {came}: pass inputs x first and "
            "labels y, if there are any, beside them, DataLoader(TensorDataset(x, y), batch_size=32)"
        )
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.dtype != dtype:
            raise DataError(
                f"samples come in the network's number format; the weights are {dtype} and {where} is "
                f"{tensor.dtype}: convert one of them"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"samples are finite; {where} holds NaN or Inf: clean the data")


def try_sample(network: nn.Module, inputs: Inputs, where: str, *, first: bool) -> None:
    """Have the network take a sample of a size that it was not asked before.

    Args:
        network: in any mode; left in it.
        inputs: what goes in of one batch.
        where: what the batch is called.
        first: whether it is the first of all.

    Raises:
        DataError: it does not take it.
    """
    error = _refusal(network, first_samples(inputs, 1))
    if error is None:
        return
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_in(inputs))
    if first and _refusal(network, change_tensors(inputs, lambda tensor: tensor[None])) is None:
        raise DataError(
            f"samples come in batches (N, ...); {where} is one sample, {shapes}: pass DataLoader(samples, "
            "batch_size=32), or a tensor of all of them"
        )
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    if not first:
        advice = "crop or resize them"
    elif all(not tensor.is_floating_point() for tensor in tensors_in(inputs)):
        advice = f"convert them to {dtype}, scaled as the network was trained on them"
    else:
        advice = "pass them as the network was trained on them, or say what goes in with forward=lambda model, batch: "
        advice += "model(...)"
    shapes = ", ".join(map(str, sample_shapes(inputs)))
    raise DataError(
        f"the network takes all samples, of whatever size; {where} has {shapes} and "
        f"{type(network).__name__} does not take it ({first_words(error)}): {advice}"
    ) from error


def _refusal(network: nn.Module, inputs: Inputs) -> Exception | None:
    """Why the network does not take these inputs."""
    try:
        with evaluation_mode(network), torch.no_grad():
            call_model(network, on_device(inputs, device_of(network)))
    except Exception as error:  # whatever a stranger's forward raises
        return error
    return None


def try_loss(network: nn.Module, loss: Loss, outputs_of: Callable[[nn.Module, Any], Any], batch: Any) -> None:
    """Refuse a loss that teaches nothing.

    Args:
        network: the dense one.
        loss: of the user.
        outputs_of: from network and batch to outputs.
        batch: as the loader gave it.

    Raises:
        DataError: it fails on the batch, or is not finite there.
        LayerError: it is not one number that depends on the network's outputs.
    """
    batch = on_device(batch, device_of(network))
    with evaluation_mode(network), torch.enable_grad(), _with_gradients(network):
        outputs = outputs_of(network, batch)
        try:
            value: object = loss(outputs, batch)
        except Exception as error:  # whatever a stranger's loss raises
            raise DataError(
                f"loss(outputs, batch) takes the network's outputs and a batch as the loader gave it, here "
                f"{kind_of_batch(batch)}; it fails on them ({first_words(error)}): pass for instance "
                "loss=lambda outputs, batch: my_loss(outputs, batch[1])"
            ) from error
        number = checked_loss(value)
        leaves = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if all(gradient is None for gradient in torch.autograd.grad(number, leaves, allow_unused=True)):
            raise _independent("a number that does not")
    if not bool(number.isfinite()):
        raise DataError(
            f"loss(outputs, batch) is finite for the network as it comes; got {float(number.detach())} for the first "
            "batch: look for NaN in its labels, or for a logarithm or a quotient of 0"
        )


def checked_loss(value: object) -> Tensor:
    """What a loss of the user's gave.

    Raises:
        LayerError: it is not one number that depends on the outputs.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad:
        return value.reshape(())
    came = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    if isinstance(value, Tensor) and value.numel() == 1:
        came = "a number that does not"
    raise _independent(came)


def _independent(came: str) -> LayerError:
    return LayerError(
        f"loss(outputs, batch) gives one number that depends on the network's outputs, as a tensor; got {came}: "
        "compute it from its first argument, without detach() or item(), and take the mean"
    )


@contextmanager
def _with_gradients(network: nn.Module) -> Iterator[None]:
    """All parameters trainable for a while."""
    frozen = [p for p in network.parameters() if p.is_floating_point() and not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def kind_of_batch(batch: object) -> str:
    """A batch in a few words."""
    if isinstance(batch, Mapping):
        return f"a dict of {', '.join(map(str, batch))}"
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {len(batch)}"
    return f"a tensor of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
