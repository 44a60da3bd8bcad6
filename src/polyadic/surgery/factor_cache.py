"""Factorise kernels, each combination of content, format and rank once: results are kept on disk by content."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from polyadic.decomposition import InputNorm
from polyadic.formats import FactoredKernel, Format
from polyadic.schema import ConvSpec, Rank, Stage
from polyadic.storage import ContentCache, cache_directory, content_key

_LAYOUT = "3"  # of the files and of the solvers behind them: change it when either changes its results


def default_cache_directory() -> Path:
    """``$POLYADIC_CACHE``, else ``polyadic/factors`` in the user's cache directory."""
    chosen = os.environ.get("POLYADIC_CACHE")
    return Path(chosen) if chosen else cache_directory("factors")


class FactorCache:
    """Factored kernels under the SHA-256 of everything that decides them.

    Files are written whole and renamed, so several processes may share a directory; a damaged file is computed again.
    """

    def __init__(self, directory: Path | None) -> None:
        """Keep files in ``directory``; None keeps nothing."""
        self.directory = directory

    def factorise(
        self, kernel: Tensor, spec: ConvSpec, fmt: Format, rank: Rank, seed: int, norm: InputNorm | None = None
    ) -> FactoredKernel:
        """``fmt.factorise(...)``, from disk if it was done before.

        Raises:
            LayerError: the format refuses the layer or the rank.
            DecompositionError: NaN or Inf weights.
            StorageError: the result could not be written.
        """
        key = self.key(kernel, spec, fmt, rank, seed, norm)
        found = self.find(key, spec, fmt, rank)
        return found if found is not None else self.keep(key, fmt.factorise(kernel, spec, rank, seed, norm))

    def key(self, kernel: Tensor, spec: ConvSpec, fmt: Format, rank: Rank, seed: int, norm: InputNorm | None) -> str:
        """The SHA-256 of everything that decides a factored kernel; empty where nothing is kept.

        Raises:
            LayerError: the format refuses the layer or the rank.
        """
        if self.directory is None:
            return ""
        fmt.check(spec, rank)
        roots = norm.roots() if norm is not None else {}
        known = (_LAYOUT, fmt, spec, rank, seed, kernel.dtype, tuple(kernel.shape), tuple(roots))
        return content_key(known, *map(_bytes_of, (kernel, *roots.values())))

    def find(self, key: str, spec: ConvSpec, fmt: Format, rank: Rank) -> FactoredKernel | None:
        """The factored kernel under ``key``, if it is on disk and whole."""
        if self.directory is None:
            return None
        return ContentCache(self.directory, ".safetensors").find(key, partial(_read, fmt.stages(spec, rank)))

    def keep(self, key: str, factored: FactoredKernel) -> FactoredKernel:
        """``factored``, which is on disk under ``key`` from now on, unless nothing is kept.

        Raises:
            StorageError: it could not be written.
        """
        if self.directory is not None:
            ContentCache(self.directory, ".safetensors").keep(key, _encode(factored))
        return factored


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _read(stages: tuple[Stage, ...], path: Path) -> FactoredKernel:
    with safe_open(path, framework="pt") as file:
        known = json.loads(file.metadata()["factored"])
        weights = tuple(file.get_tensor(str(number)) for number in range(len(stages)))
    if any(tuple(weight.shape) != stage.weight_shape for weight, stage in zip(weights, stages, strict=True)):
        raise ValueError("shapes do not fit the stages")
    return FactoredKernel(stages=stages, weights=weights, **{**known, "rank": tuple(known["rank"])})


def _encode(factored: FactoredKernel) -> bytes:
    known = {key: value for key, value in vars(factored).items() if key not in ("stages", "weights")}
    tensors = {str(number): weight.detach().cpu().contiguous() for number, weight in enumerate(factored.weights)}
    return safetensors.torch.save(tensors, metadata={"factored": json.dumps(known)})
