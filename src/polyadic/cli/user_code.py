"""What a user's Python file holds for a command: data, a task, a metric, a loss, a pass of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from polyadic.errors import DataError, PolyadicError
from polyadic.factory import named_object
from polyadic.training import Metric
from polyadic.training.metric import as_metric, is_fed


def data_from(text: str) -> object:
    """What ``text``, such as file.py:name, names; a function without arguments is called, one of the model is returned.

    Raises:
        DataError: it is not there, fails, or takes several arguments.
    """
    found = named_object(text, "data", DataError)
    if not _is_function(found.value):
        return found.value
    needed = _needed(found.value)
    if needed > 1:
        raise DataError(
            f"data come from a function without arguments, or from one of the model; '{text}' takes {needed}: give a "
            "default to the others"
        )
    return found if needed else found()


def is_score(value: object) -> bool:
    """Whether a function of the model has given a score, neither a task nor samples: one number, or a row of them."""
    return isinstance(value, int | float | np.number) or (isinstance(value, Tensor) and value.dim() < 2)


def metric_from(text: str | None, unit: str | None) -> Metric | None:
    """The metric that ``text`` names, in ``unit`` where one is given.

    Raises:
        PolyadicError: it is not there, is no metric, or there is a unit and no metric.
    """
    if text is None:
        if unit is not None:
            raise PolyadicError(f"--metric-unit {unit} is that of a metric: name one with --metric file.py:function")
        return None
    found = named_object(text, "metric", PolyadicError)
    value = found() if _is_function(found.value) and not _needed(found.value) else found.value
    if not (isinstance(value, Metric) or callable(value)):
        raise PolyadicError(
            f"a metric is a function (model) -> number, a polyadic.Metric or a torchmetrics.Metric; '{text}' is a "
            f"{type(value).__name__}"
        )
    metric = as_metric(value)
    return metric if unit is None else replace(metric, unit=unit)


def function_from(text: str | None, what: str) -> Callable[..., Any] | None:
    """The function that ``text`` names: ``what`` is "loss" or "forward", both of two arguments.

    Raises:
        PolyadicError: it is not there, or no function.
    """
    if text is None:
        return None
    value = named_object(text, what, PolyadicError).value
    if not callable(value):
        raise PolyadicError(f"--{what} names a function of two arguments; '{text}' is a {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def _is_function(value: object) -> bool:
    """Whether it is to be called, in the place of being taken as it is."""
    return callable(value) and not (isinstance(value, Metric | nn.Module) or is_fed(value))


def _needed(function: Callable[..., Any]) -> int:
    """How many arguments it cannot do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in, so that nothing is known of its arguments
        return 1
    return sum(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
