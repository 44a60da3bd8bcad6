"""A fine-tuning run between two epochs: weights put aside, how far it has come, the file from which it goes on."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.storage import atomic_path, storage_errors
from polyadic.training.options import EpochRecord, FinetuneOptions, FinetuneReport, FinetuneStop
from polyadic.training.score_images import Score

_log = logging.getLogger(__name__)

Weights = list[Tensor]
"""Copies of tensors, in the order in which they were given."""


@torch.no_grad()
def capture(tensors: Sequence[Tensor], into: Weights | None = None) -> Weights:
    """Copy ``tensors``, into an earlier capture of the same ones when given."""
    if into is None:
        return [tensor.detach().clone() for tensor in tensors]
    for saved, tensor in zip(into, tensors, strict=True):
        saved.copy_(tensor)
    return into


@torch.no_grad()
def restore(tensors: Sequence[Tensor], weights: Weights) -> None:
    """Write captured ``weights`` back into ``tensors``, bit for bit."""
    for tensor, saved in zip(tensors, weights, strict=True):
        tensor.copy_(saved)


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of every parameter and buffer: name, dtype, shape and bytes, whatever the memory format."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass
class TrainingState:
    """The state of a run between two epochs.

    Attributes:
        start: score of the model as it came.
        best: the best score so far, ``start`` included until an epoch comes within the handicap of it.
        best_weights: the tensors that may change, as they were at ``best``.
        best_epoch: 0 = as it came.
        epoch: epochs finished.
        rate_scale: factor on the learning rate: saturation and divergence lower it.
        reductions: how often saturation has lowered it.
        level_epochs: epochs since the last new best score or reduction.
        retries: divergences answered so far.
        history: one record per epoch run.
        stop: why the run ended; None while it goes on.
        seconds: wall time so far.
    """

    start: Score
    best: Score
    best_weights: Weights
    best_epoch: int = 0
    epoch: int = 0
    rate_scale: float = 1.0
    reductions: int = 0
    level_epochs: int = 0
    retries: int = 0
    history: list[EpochRecord] = field(default_factory=list)
    stop: FinetuneStop | None = None
    seconds: float = 0.0

    def finish_epoch(self, score: Score, changing: Sequence[Tensor], options: FinetuneOptions) -> None:
        """Count an epoch that ended at ``score``; keep its weights if it is the best, and follow the schedule.

        The first epoch that comes within the handicap of the start takes its place; from then on epochs compete with
        one another.
        """
        self.epoch += 1
        self.level_epochs += 1
        if score.beats(self.best) or (self.best_epoch == 0 and score.value > self.best.value - options.handicap):
            self.best, self.best_epoch, self.level_epochs = score, self.epoch, 0
            capture(changing, into=self.best_weights)
        if options.schedule == "saturation" and self.level_epochs >= options.patience:
            if self.reductions < options.reductions:
                self.rate_scale *= options.decay
                self.reductions += 1
                self.level_epochs = 0
            else:
                self.stop = FinetuneStop.SATURATED
        if self.stop is None and self.epoch >= options.epochs:
            self.stop = FinetuneStop.COMPLETED

    def fail_epoch(self, options: FinetuneOptions) -> None:
        """Count a divergence: lower the rate, or stop when the retries are used up."""
        if self.retries >= options.retries:
            self.stop = FinetuneStop.DIVERGED
        else:
            self.retries += 1
            self.rate_scale *= options.decay

    def report(self) -> FinetuneReport:
        """Return what a finished run did.

        Raises:
            RuntimeError: the run has not stopped.
        """
        if self.stop is None:
            raise RuntimeError("a report needs a run that has stopped")
        return FinetuneReport(self.start, self.best, self.best_epoch, tuple(self.history), self.stop, self.seconds)

    def to_state(self) -> dict[str, Any]:
        """Return the same as tensors, numbers and strings, which ``torch.load(weights_only=True)`` reads."""
        state = dict(vars(self))
        state["start"], state["best"] = dict(vars(self.start)), dict(vars(self.best))
        state["history"] = [asdict(record) for record in self.history]
        state["stop"] = None if self.stop is None else self.stop.name
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingState:
        """Read back what ``to_state`` returned."""
        parts = dict(state)
        parts["start"], parts["best"] = Score(**state["start"]), Score(**state["best"])
        parts["history"] = [EpochRecord(**record) for record in state["history"]]
        parts["stop"] = None if state["stop"] is None else FinetuneStop[state["stop"]]
        return cls(**parts)


class Checkpoint:
    """One file that holds the state of one run; ``key`` names the run, and a file of another run is not read."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def load(self) -> dict[str, Any] | None:
        """Return what was saved under this key, or None when there is nothing to go on from (a warning says why)."""
        if not self.path.exists():
            return None
        try:
            held = torch.load(self.path, map_location="cpu", weights_only=True)
            key, state = held["key"], held["state"]
        except Exception as error:  # whatever is wrong with the file, the run can begin again
            _log.warning("checkpoint %s cannot be read (%s) and is ignored: the run starts anew", self.path, error)
            return None
        if key != self.key or not isinstance(state, dict):
            _log.warning("checkpoint %s belongs to another run and is ignored: the run starts anew", self.path)
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state`` (tensors, numbers, strings and containers of them), whole or not at all.

        Raises:
            StorageError: the file system refused.
        """
        held = io.BytesIO()  # torch.save into a full disk raises RuntimeError; a plain write says what happened
        torch.save({"key": self.key, "state": state}, held)
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(held.getbuffer())

    def remove(self) -> None:
        """Delete the file, if it is there.

        Raises:
            StorageError: the file system refused.
        """
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)
