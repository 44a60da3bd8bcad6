"""Factorise kernels, each combination of content, format and rank once: results are kept on disk by content."""

from __future__ import annotations

import json
import os
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from polyadic.decomposition import InputNorm
from polyadic.errors import PolyadicError
from polyadic.formats import FactoredKernel, Format
from polyadic.schema import ConvSpec, Rank, Stage
from polyadic.storage import ContentCache, cache_directory, content_key
from polyadic.surgery.model_checks import check_loaded

_LAYOUT = "3"  # of the files and of the solvers behind them: change it when either changes its results


def default_cache_directory() -> Path:
    """``$POLYADIC_CACHE``, else ``polyadic/factors`` in the user's cache directory."""
    chosen = os.environ.get("POLYADIC_CACHE")
    if chosen:
        return Path(chosen)
    return cache_directory("factors")


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
        if self.directory is None:
            return fmt.factorise(kernel, spec, rank, seed, norm)
        fmt.check(spec, rank)
        stages = fmt.stages(spec, rank)
        cache = ContentCache(self.directory, ".safetensors", read=lambda path: _read(path, stages), encode=_encode)
        return cache.get_or_compute(
            _key(kernel, spec, fmt, rank, seed, norm), lambda: fmt.factorise(kernel, spec, rank, seed, norm)
        )


def _key(kernel: Tensor, spec: ConvSpec, fmt: Format, rank: Rank, seed: int, norm: InputNorm | None) -> str:
    roots = norm.roots() if norm is not None else {}
    known = (_LAYOUT, fmt, spec, rank, seed, kernel.dtype, tuple(kernel.shape), tuple(roots))
    tensors = (tensor.detach().cpu().contiguous().flatten() for tensor in (kernel, *roots.values()))
    return content_key(known, *(tensor.view(torch.uint8).numpy().tobytes() for tensor in tensors))


def _read(path: Path, stages: tuple[Stage, ...]) -> FactoredKernel:
    """A kernel of exactly these stages; any error says that the file is damaged."""
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


def check_finite(model: torch.nn.Module) -> None:
    """Refuse a model with NaN or Inf weights, or with none yet, before anything is computed from it.

    Raises:
        PolyadicError: names the first such tensor.
    """
    check_loaded(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise PolyadicError(
                    f"compression needs finite weights; {name!r} has {bad} NaN or Inf of {tensor.numel()}: "
                    "load weights that trained to the end"
                )
