"""Judge a network by what chose nothing: the test data of a task."""

from __future__ import annotations

from torch import nn

from polyadic.training import Task
from polyadic.training.task import require_task


def evaluate(model: nn.Module, task: Task) -> float:
    """The score of ``model`` on the test data of ``task``; more is better, an accuracy is a fraction.

    Test data chooses nothing: read it once, at the end.

    Args:
        model: any network that the task can score; it is left as it was.
        task: what the network is for.

    Raises:
        PolyadicError: the task is none.
        DataError: the outputs do not fit the data.
    """
    require_task(task)
    return task.final_scores((model,)).values[0]
