"""Fine-tune a factorised network, taught by the network that it was made of."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from polyadic.pipeline.options import OnProgress, Progress
from polyadic.training import EpochRecord, FinetuneReport, Task
from polyadic.training.task import require_task


def finetune(
    model: nn.Module,
    teacher: nn.Module,
    task: Task,
    *,
    checkpoint: Path | None = None,
    on_progress: OnProgress = lambda _: None,
) -> FinetuneReport | None:
    """Train ``model`` in place as the task says; it does not end worse, on held-out samples, than it began.

    Any network will do: one that :func:`polyadic.apply_plan` has made, one that :func:`polyadic.load` has read, or one
    of factorised layers. Called again with the same arguments after an interruption it goes on from the checkpoint.

    Args:
        model: to be trained; it returns in evaluation mode.
        teacher: the dense network, whose answers are learnt from; it is left as it was.
        task: what the network is for; it has the data and the training options.
        checkpoint: file that is written after every epoch and removed at the end; None keeps nothing.
        on_progress: called after every epoch.

    Returns:
        Start, best and history; None where the task has nothing to train with.

    Raises:
        PolyadicError: the task is none.
        LayerError: the model or the teacher does not fit the task.
        StorageError: the checkpoint could not be written.
    """

    def epoch(record: EpochRecord, epochs: int) -> None:
        score = "diverged" if record.score is None else f"{task.words.said(record.score)} on held-out samples"
        on_progress(Progress("finetune", record.epoch, epochs, f"loss {record.loss:.4f}, {score}"))

    require_task(task)
    report = task.tune_network(model, teacher, epoch, checkpoint)
    model.eval()
    return report
