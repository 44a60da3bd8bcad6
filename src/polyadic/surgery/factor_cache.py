"""Factorise kernels, each combination of content, format and rank once: results are kept on disk by content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyadic.decomposition import InputNorm
from polyadic.errors import PolyadicError
from polyadic.formats import FactoredKernel, Format
from polyadic.schema import ConvSpec, Rank, Stage
from polyadic.storage import atomic_path
from polyadic.surgery.model_checks import check_loaded

log = logging.getLogger(__name__)

_LAYOUT = "3"  # of the files and of the solvers behind them: change it when either changes its results


def default_cache_directory() -> Path:
    """``$POLYADIC_CACHE``, else ``polyadic/factors`` in the user's cache directory."""
    chosen = os.environ.get("POLYADIC_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyadic" / "factors"


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
        path = self.directory / f"{_key(kernel, spec, fmt, rank, seed, norm)}.safetensors"
        kept = _read(path, fmt.stages(spec, rank))
        if kept is not None:
            return kept
        factored = fmt.factorise(kernel, spec, rank, seed, norm)
        _write(path, factored)
        return factored


def _key(kernel: Tensor, spec: ConvSpec, fmt: Format, rank: Rank, seed: int, norm: InputNorm | None) -> str:
    roots = norm.roots() if norm is not None else {}
    known = (_LAYOUT, fmt, spec, rank, seed, kernel.dtype, tuple(kernel.shape), tuple(roots))
    digest = hashlib.sha256(repr(known).encode())
    for tensor in (kernel, *roots.values()):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, stages: tuple[Stage, ...]) -> FactoredKernel | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads(file.metadata()["factored"])
            weights = tuple(file.get_tensor(str(number)) for number in range(len(stages)))
        if any(tuple(weight.shape) != stage.weight_shape for weight, stage in zip(weights, stages, strict=True)):
            raise ValueError("shapes do not fit the stages")
        return FactoredKernel(stages=stages, weights=weights, **{**known, "rank": tuple(known["rank"])})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("ignored the damaged cache file %s: %s", path, error)
        return None


def _write(path: Path, factored: FactoredKernel) -> None:
    known = {key: value for key, value in vars(factored).items() if key not in ("stages", "weights")}
    tensors = {str(number): weight.detach().cpu().contiguous() for number, weight in enumerate(factored.weights)}
    content = safetensors.torch.save(tensors, metadata={"factored": json.dumps(known)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


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
