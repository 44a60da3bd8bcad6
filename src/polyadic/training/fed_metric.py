"""A metric without samples of its own, such as one of torchmetrics, fed with a network's outputs and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.errors import DataError, LayerError, first_words
from polyadic.layers import device_of
from polyadic.training.metric import Metric
from polyadic.training.outputs import tensors_of
from polyadic.training.sample_checks import kind_of_batch


def fed_score(
    metric: Metric,
    model: nn.Module,
    batches: Iterable[Any],
    ask: Callable[[nn.Module, Any], Any],
    labels_of: Callable[[Any], Any],
) -> Tensor:
    """What the metric computes over all batches.

    Args:
        metric: one that is fed; it is reset before.
        model: in evaluation mode.
        batches: on the model's device.
        ask: from the model and a batch to the outputs.
        labels_of: what a batch holds beside its inputs.

    Raises:
        DataError: a batch holds no labels, or others than the metric takes.
        LayerError: the outputs are several tensors.
        PolyadicError: it computes no finite number.
    """
    function: Any = metric.function
    function.to(device_of(model)).reset()
    with torch.inference_mode():
        for batch in batches:
            outputs, labels = _one_tensor(metric, model, ask(model, batch)), labels_of(batch)
            try:
                function.update(outputs, labels)
            except (TypeError, ValueError, RuntimeError) as error:
                raise DataError(
                    f"{metric.name} is fed with outputs and labels; it does not take {kind_of_batch(outputs)} "
                    f"and {kind_of_batch(labels)} ({first_words(error)}): say what counts of the outputs with "
                    "forward=lambda model, batch: model(...), or pass a function metric(model)"
                ) from error
        return metric.checked(function.compute())


def _one_tensor(metric: Metric, model: nn.Module, outputs: Any) -> Tensor:
    found = [outputs] if isinstance(outputs, Tensor) else tensors_of(outputs)
    if len(found) > 1:
        raise LayerError(
            f"{metric.name} is fed with one tensor; {type(model).__name__} returns {len(found)}: "
            "say which with forward=lambda model, batch: model(...)[...]"
        )
    return found[0]
