"""A batch of CP problems from their starting points to their solutions.

Starting points come one per seed. Each member leaves the batch when it is done, and the others go on without it.

Sweeps may be extrapolated with restarts (Ang, Cohen and Gillis, Numerical Algorithms 2019, for ALS). Every sweep starts
from ``x + beta (x - x_before)``. Where that raised the objective, a plain sweep from x takes its place and beta is
halved; otherwise beta grows a little, up to a ceiling that a failure lowers. So the objective never rises, and sweeps
through a long flat valley become about ten times fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from polyadic.algebra import CPTensor, gram, unfold
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.solution import Solution, StopReason, check_rank, solution_of
from polyadic.errors import DecompositionError

Initialiser: TypeAlias = Callable[[Tensor, int, torch.Generator], list[Tensor]]

Sweep: TypeAlias = Callable[[UnitTensors, CPTensor, Tensor], tuple[CPTensor, Tensor, Tensor]]
"""From tensors, factors and their positions in the batch to new factors, squared errors and objectives (b)."""


def random_init(X: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    """Independent N(0, 1) entries."""
    return [torch.randn(size, rank, generator=generator, dtype=torch.float64).to(X.device) for size in X.shape]


def singular_init(X: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    """Leading left singular vectors of each unfolding ('nvec'); columns beyond I_n, and so most of A, are random."""
    factors = []
    for mode, size in enumerate(X.shape):
        # eigenvectors of X_(n) X_(n)' (I_n x I_n): the wide unfolding itself is never decomposed
        vectors = torch.linalg.eigh(gram(unfold(X, mode).mT).double()).eigenvectors.flip(1)[:, :rank]
        extra = torch.randn(size, max(rank - size, 0), generator=generator, dtype=torch.float64).to(X.device)
        factors.append(torch.cat([vectors, extra / extra.norm(dim=0).clamp_min(1e-300)], dim=1))
    return factors


INITIALISERS: dict[str, Initialiser] = {"random": random_init, "singular": singular_init}


def initial_cp(unit: UnitTensors, rank: int, init: str, seeds: Sequence[int]) -> CPTensor:
    """The starting points named ``init`` for every tensor of the batch, balanced, and of its norm unless terms cancel.

    Raises:
        DecompositionError: a rank below 1, or an unknown name.
    """
    check_rank(rank)
    if init not in INITIALISERS:
        raise DecompositionError(f"a CP starting point is one of {', '.join(INITIALISERS)}; got {init!r}")
    points = [
        INITIALISERS[init](X, rank, torch.Generator().manual_seed(seed)) for X, seed in zip(unit.X, seeds, strict=True)
    ]
    cp = CPTensor(tuple(torch.stack(matrices) for matrices in zip(*points, strict=True)))
    norm = cp.squared_norm().clamp_min(0).sqrt()
    # terms that cancel, such as +1 and -1 of a scalar, are left as they are: from zeros no solver gets away
    cp = cp.scaled(torch.where(norm > 0, unit.squares.sqrt() / norm.clamp_min(1e-300), 1.0)).rescaled()
    return cp.to(unit.X)


def check_factors(cp: CPTensor, K: Tensor, name: str) -> None:
    """Refuse factors that are not of ``K``.

    Raises:
        DecompositionError: a batch, columns that do not match, other sizes, NaN or Inf.
    """
    if any(U.ndim != 2 for U in cp.factors) or len({U.shape[-1] for U in cp.factors}) != 1 or cp.rank < 1:
        shapes = [tuple(U.shape) for U in cp.factors]
        raise DecompositionError(f"{name} takes one matrix per mode, all with the same R >= 1 columns; got {shapes}")
    if cp.shape != tuple(K.shape):
        raise DecompositionError(f"{name}: the factors make a {cp.shape} tensor, the tensor is {tuple(K.shape)}")
    if not cp.is_finite():
        raise DecompositionError(f"{name} starts from finite factors; got NaN or Inf among them: decompose again")


def start_at(unit: UnitTensors, cp: CPTensor, K: Tensor, name: str) -> CPTensor:
    """``cp``, factors of ``K``, as a batch of one for the unit tensor of ``K``, in float64.

    Raises:
        DecompositionError: as :func:`check_factors`.
    """
    check_factors(cp, K, name)
    return unit.inside(cp[None].double())


@dataclass(frozen=True)
class Finished:
    """What became of one member: its factors (of the unit tensor), why they stopped and the squared error by sweep."""

    cp: CPTensor
    stop: StopReason
    squared_errors: tuple[float, ...]


class Batch:
    """Who is still at work.

    Attributes:
        unit: the tensors of those at work.
        members: their numbers in the whole batch.
    """

    def __init__(self, unit: UnitTensors) -> None:
        self.unit = unit
        self.members = list(range(len(unit)))
        self._errors: list[list[float]] = [[] for _ in self.members]
        self._finished: dict[int, Finished] = {}

    def record(self, squared_errors: Tensor) -> None:
        """Note the squared errors after a sweep of those at work."""
        for member, error in zip(self.members, squared_errors.tolist(), strict=True):
            self._errors[member].append(error)

    def errors(self, member: int) -> list[float]:
        """What was noted of a member so far."""
        return self._errors[member]

    def retire(self, done: Tensor, cp: CPTensor, stops: Sequence[StopReason]) -> Tensor | None:
        """Let those leave for whom ``done`` holds; ``cp`` and ``stops`` are of all at work.

        Returns:
            The positions of those that stay; None if nobody leaves, or nobody stays.
        """
        leaving = done.tolist()
        if not any(leaving):
            return None
        for position, member in enumerate(self.members):
            if leaving[position]:
                errors = tuple(self._errors[member])
                self._finished[member] = Finished(cp[position], stops[position], errors)
        self.members = [member for member, leaves in zip(self.members, leaving, strict=True) if not leaves]
        if not self.members:
            return None
        staying = torch.nonzero(~done).flatten()
        self.unit = self.unit[staying]
        return staying

    def finished(self) -> list[Finished]:
        """The outcome of every member, in order."""
        return [self._finished[member] for member in sorted(self._finished)]


@dataclass
class Extrapolated:
    """Where the members of a batch are; all but the factors are vectors over the batch."""

    cp: CPTensor
    previous: CPTensor
    error: Tensor
    objective: Tensor
    beta: Tensor
    ceiling: Tensor

    @staticmethod
    def at(cp: CPTensor, like: Tensor) -> Extrapolated:
        """The beginning, ``like`` being any vector over the batch; nothing is known of the objective yet."""
        ones = torch.ones_like(like)
        return Extrapolated(cp, cp, ones, torch.inf * ones, 0.5 * ones, ones)

    def step(self, unit: UnitTensors, sweep: Sweep) -> Tensor:
        """One sweep of each; returns by how much the objectives fell."""
        everyone = torch.arange(len(unit), device=self.beta.device)
        cp, error, value = sweep(unit, self._ahead(), everyone)
        worse = ~(value <= self.objective)
        if bool(worse.any()):
            w = everyone[worse]
            plain, error_w, value_w = sweep(unit[w] if len(w) < len(unit) else unit, self.cp[w], w)
            cp = CPTensor(tuple(U.index_copy(0, w, V) for U, V in zip(cp.factors, plain.factors, strict=True)))
            error, value = error.index_copy(0, w, error_w), value.index_copy(0, w, value_w)
        self.ceiling, self.beta = (
            torch.where(worse, self.beta, (1.02 * self.ceiling).clamp_max(1.0)),
            torch.where(worse, 0.5 * self.beta, torch.minimum(1.05 * self.beta, self.ceiling)),
        )
        gain = self.objective - value
        self.previous, self.cp, self.error, self.objective = self.cp, cp, error, value
        return gain

    def restart(self, where: Tensor, objective: Tensor) -> None:
        """Go on from the present factors with another objective, whose value is given, for those ``where``."""
        self.objective = torch.where(where, objective, self.objective)
        self.beta = torch.where(where, 0.5, self.beta)
        self.ceiling = torch.where(where, 1.0, self.ceiling)
        self.previous = choose(where, self.cp, self.previous)

    def keep(self, positions: Tensor) -> None:
        """Only those at ``positions`` go on."""
        for name, value in vars(self).items():
            setattr(self, name, value[positions])

    def _ahead(self) -> CPTensor:
        steps = 1.0 + self.beta[:, None, None].to(self.cp.factors[0])
        pairs = zip(self.cp.factors, self.previous.factors, strict=True)
        return CPTensor(tuple(torch.lerp(V, U, steps) for U, V in pairs))


def choose(where: Tensor, first: CPTensor, second: CPTensor) -> CPTensor:
    """``first`` for the members ``where`` (b), ``second`` for the others."""
    pairs = zip(first.factors, second.factors, strict=True)
    return CPTensor(tuple(torch.where(where[:, None, None], U, V) for U, V in pairs))


def solutions(tensors: Sequence[Tensor], unit: UnitTensors, runs: Sequence[Finished]) -> list[Solution[CPTensor]]:
    """The outcomes of a batch as solutions of the tensors that were given."""
    answers = []
    for number, (K, run) in enumerate(zip(tensors, runs, strict=True)):
        one = unit[torch.tensor([number])]
        cp = one.outside(run.cp[None])[0]
        answers.append(solution_of(K, cp, run.stop, run.squared_errors))
    return answers
