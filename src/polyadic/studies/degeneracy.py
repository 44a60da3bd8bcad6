"""Degeneracy of CP decompositions against the rank, after Phan et al. (ECCV 2020), section 1.2 and figure 2.

Every kernel, as the tensor ``D^2 x S x T``, is decomposed at growing ranks by alternating least squares, by
Levenberg-Marquardt and by the stable method of this library. Of each decomposition stand the intensities of its
rank-one terms, how much they cancel and how it bears small changes (:func:`polyadic.decomposition.diagnose`).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from polyadic.algebra import CPTensor, kernel_to_order3
from polyadic.decomposition import (
    ALSOptions,
    LMOptions,
    Solution,
    StableOptions,
    cp_als,
    cp_lm,
    diagnose,
    full_rank,
    stable_cp,
)
from polyadic.errors import PolyadicError
from polyadic.schema import DegeneracyRow, DegeneracyStudy, LayerSite
from polyadic.studies.study import OnProgress, Row, RowFile, choose_layers, no_layer, rows_of
from polyadic.surgery import find_layers_as_is, layer_at

METHODS = {"als": "ALS", "lm": "LM", "stable": "stable CP"}
"""What is compared, and how a sentence calls it."""

SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)

_LARGE = 10.0  # sum of squared intensities over ||K||^2, the same bound as in diagnostics.py


@dataclass(frozen=True)
class DegeneracyOptions:
    """Which decompositions are made.

    Attributes:
        methods: of :data:`METHODS`.
        ranks: for every layer; empty for ``shares``.
        shares: ranks as shares of ``T S D^2 / (T + S + D^2)``, the rank at which the factors hold as many numbers as
            the kernel.
        layers: names or patterns with *; empty for every convolution with a window.
        als: of alternating least squares.
        lm: of Levenberg-Marquardt.
        stable: of the stable method.
        seed: of the starting points, the same for all methods.
        work: folder in which rows are kept as they are measured; None keeps nothing.
        resume: whether to go on from rows that are there.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    ranks: tuple[int, ...] = ()
    shares: tuple[float, ...] = SHARES
    layers: tuple[str, ...] = ()
    als: ALSOptions = field(default_factory=ALSOptions)
    lm: LMOptions = field(default_factory=LMOptions)
    stable: StableOptions = field(default_factory=StableOptions)
    seed: int = 0
    work: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown methods and ranks that are none."""
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise PolyadicError(f"methods are of {', '.join(METHODS)}; got {', '.join(unknown) or 'none'}")
        if any(rank < 1 for rank in self.ranks) or not all(share > 0 for share in self.shares):
            raise PolyadicError(f"ranks are 1 or more and their shares above 0; got {self.ranks} and {self.shares}")
        if not self.ranks and not self.shares:
            raise PolyadicError("a study of degeneracy needs ranks or shares of them; got none")

    def ranks_for(self, K: Tensor) -> tuple[int, ...]:
        """The ranks for a kernel ``K`` (D^2 x S x T), rising, below the one that is always exact."""
        even = math.prod(K.shape) / sum(K.shape)
        wanted = self.ranks or tuple(max(1, round(share * even)) for share in self.shares)
        return tuple(sorted({min(rank, full_rank(tuple(K.shape)) - 1) for rank in wanted} - {0}))


def degeneracy_study(
    model: nn.Module,
    example_input: Tensor,
    options: DegeneracyOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> DegeneracyStudy:
    """Decompose the kernels of ``model`` at growing ranks and examine what comes out.

    Args:
        model: a trained network; it is left as it is.
        example_input: a batch (N, ...) that it runs on.
        options: :class:`DegeneracyOptions` with its defaults when absent.
        on_progress: told, before each row, how many are done, how many there are, and which comes.

    Raises:
        LayerError: none of the layers that were asked for is a convolution with a window, or the model does not run.
        PolyadicError: rows of another study lie in the folder.
        StorageError: a row could not be written.
    """
    options = options or DegeneracyOptions()
    kernels, skipped = _kernels(model, find_layers_as_is(model, example_input), options)
    file = RowFile(options.work, _digest(kernels, options), resume=options.resume)
    measured = {
        f"{name}/{method}/{rank}": partial(_row, name, K, method, rank, options)
        for name, K in kernels.items()
        for method in options.methods
        for rank in options.ranks_for(K)
    }
    rows = rows_of(DegeneracyRow, file.measure(measured, on_progress))
    said = {name: describe_layer([row for row in rows if row.layer == name]) for name in kernels}
    return DegeneracyStudy(rows=rows, verdicts=said, skipped=skipped, methods=METHODS)


def describe_layer(rows: Sequence[DegeneracyRow]) -> str:
    """One sentence about the rows of one layer."""
    methods = list(dict.fromkeys(row.method for row in rows))
    return "; ".join(_of_method([row for row in rows if row.method == method], METHODS[method]) for method in methods)


def _of_method(rows: Sequence[DegeneracyRow], name: str) -> str:
    ordered = sorted(rows, key=lambda row: row.rank)
    degenerate = [row.degenerate for row in ordered]
    if any(degenerate):
        return f"degenerate {_where(ordered, degenerate)} under {name}"
    # terms that are long together and whose sum is not must cancel, though no two of them alone
    squares = [math.inf if row.sum_squared_intensity is None else row.sum_squared_intensity for row in ordered]
    large = [square > _LARGE for square in squares]
    if any(large):
        return (
            f"under {name} no two terms are opposite, but larger groups cancel {_where(ordered, large)} "
            f"(sum of squared intensities up to {max(squares):.3g} ||K||^2)"
        )
    return f"not degenerate under {name}"


def _where(ordered: Sequence[DegeneracyRow], holds: Sequence[bool]) -> str:
    """At which of the ranks, which rise, something holds."""
    first = holds.index(True)
    if len(ordered) > 1 and all(holds):
        return "at every rank tried"
    if all(holds[first:]) and first < len(holds) - 1:
        return f"from rank {ordered[first].rank} on"
    return f"at rank {', '.join(str(row.rank) for row, held in zip(ordered, holds, strict=True) if held)}"


def _row(layer: str, K: Tensor, method: str, rank: int, options: DegeneracyOptions) -> Row:
    began = time.monotonic()
    solution = _solved(K, method, rank, options)
    seconds = time.monotonic() - began
    found = diagnose(solution.factors, K)
    return {
        "layer": layer,
        "method": method,
        "rank": rank,
        "relative_error": solution.relative_error,
        "intensities": found.intensities,
        "intensity_ratio": found.stability.intensity_ratio,
        "sum_squared_intensity": found.stability.sum_squared_intensity,
        "sensitivity": found.stability.sensitivity,
        "sensitivity_lemma": found.stability.sensitivity_lemma,
        "congruence": found.congruence,
        "opposition": found.opposition,
        "gram_condition": found.gram_condition,
        "degenerate": found.degenerate,
        "sweeps": solution.sweeps,
        "stop": solution.stop.value,
        "seconds": round(seconds, 3),
    }


def _solved(K: Tensor, method: str, rank: int, options: DegeneracyOptions) -> Solution[CPTensor]:
    if method == "als":
        return cp_als(K, rank, options.als, seed=options.seed)
    if method == "lm":
        return cp_lm(K, rank, options.lm, seed=options.seed)
    return stable_cp(K, rank, options.stable, seed=options.seed)


def _kernels(
    model: nn.Module, sites: Sequence[LayerSite], options: DegeneracyOptions
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The kernels as D^2 x S x T in float64, and why others are not there."""
    chosen, skipped = choose_layers(sites, options.layers, _why_not)
    if not chosen:
        raise no_layer("a study of degeneracy needs a convolution with a window", skipped)
    return {site.name: kernel_to_order3(layer_at(model, site.name)[1].detach().double()) for site in chosen}, skipped


def _why_not(site: LayerSite) -> str | None:
    """Why the kernel of a layer is not decomposed."""
    if site.reason is not None or site.spec is None:
        return site.reason or "its geometry is unknown"
    if site.spec.groups > 1:
        return "it has several groups"
    return "its window is one pixel: a matrix" if site.spec.taps == 1 else None


def _digest(kernels: Mapping[str, Tensor], options: DegeneracyOptions) -> str:
    """A name for the rows that these kernels give under these options."""
    study = hashlib.sha256(repr((options.als, options.lm, options.stable, options.seed)).encode())
    for name, K in kernels.items():
        study.update(f"{name} {tuple(K.shape)}".encode())
        study.update(K.contiguous().numpy().tobytes())
    return study.hexdigest()
