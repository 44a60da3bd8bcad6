"""Weights put aside and put back, and the file from which an interrupted run goes on."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.storage import atomic_path, storage_error

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
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error
