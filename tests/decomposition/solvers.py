"""Every decomposition by name, all called alike: ``solve(K, rank, seed)``; those of any order apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    BoundedOptions,
    DeflationOptions,
    EPCOptions,
    KLMOptions,
    LMOptions,
    RidgeOptions,
    Solution,
    StableOptions,
    cp_als,
    cp_bounded,
    cp_deflation,
    cp_epc,
    cp_epc_rounds,
    cp_klm,
    cp_lm,
    cp_ridge,
    stable_cp,
    tkd_cpd,
    tucker2,
    tucker2_bounded,
)

Solver: TypeAlias = Callable[[Tensor, int, int], Solution[Any]]

SHORT_ALS = ALSOptions(max_sweeps=60)
SHORT_EPC = EPCOptions(max_sweeps=60)
SHORT_RIDGE = RidgeOptions(max_sweeps=20)
SHORT_STABLE = StableOptions(ridge=SHORT_RIDGE, fit=BoundedOptions(max_sweeps=60), epc=SHORT_EPC, starts=1)
SHORT_START = ALSOptions(max_sweeps=15)


def within(K: Tensor, rank: int) -> tuple[int, int]:
    """Multilinear ranks as close to ``rank`` as the tensor allows."""
    return (min(rank, K.shape[1]), min(rank, K.shape[2])) if K.ndim == 3 else (rank, rank)


def als_then_epc(K: Tensor, rank: int, seed: int) -> Solution[CPTensor]:
    """The procedure of the ECCV paper."""
    return cp_epc(K, cp_als(K, rank, SHORT_ALS, seed=seed).factors, SHORT_EPC)


def continued(
    K: Tensor, rank: int, seed: int, solve: Callable[[Tensor, CPTensor], Solution[CPTensor]]
) -> Solution[CPTensor]:
    """From the factors of a few sweeps of plain ALS."""
    return solve(K, cp_als(K, rank, SHORT_START, seed=seed).factors)


CP_SOLVERS: dict[str, Solver] = {
    "cp_als": lambda K, R, seed: cp_als(K, R, SHORT_ALS, seed=seed),
    "cp_als from singular vectors": lambda K, R, seed: cp_als(K, R, ALSOptions(60, init="singular"), seed=seed),
    "cp_als of three starts": lambda K, R, seed: cp_als(K, R, ALSOptions(60, starts=3), seed=seed),
    "cp_deflation": lambda K, R, seed: cp_deflation(K, R, DeflationOptions(starts=2, max_sweeps=20), seed=seed),
    "cp_ridge": lambda K, R, seed: cp_ridge(K, R, SHORT_RIDGE, seed=seed),
    "cp_lm": lambda K, R, seed: cp_lm(K, R, LMOptions(max_steps=20), seed=seed),
    "cp_lm with a penalty": lambda K, R, seed: cp_lm(K, R, LMOptions(mu=1e-4, max_steps=20), seed=seed),
    "cp_als, cp_epc": als_then_epc,
    "cp_als, cp_epc_rounds": lambda K, R, seed: continued(
        K, R, seed, lambda K, cp: cp_epc_rounds(K, cp, 2, EPCOptions(max_sweeps=20))
    ),
    "cp_als, cp_bounded": lambda K, R, seed: continued(
        K, R, seed, lambda K, cp: cp_bounded(K, cp, BoundedOptions(max_sweeps=30))
    ),
    "stable_cp": lambda K, R, seed: stable_cp(K, R, SHORT_STABLE, seed=seed),
}

# needs a sensitivity above zero, hence neither a zero tensor nor zero factors
KLM: dict[str, Solver] = {
    "cp_als, cp_klm": lambda K, R, seed: continued(
        K, R, seed, lambda K, cp: cp_klm(K, cp, KLMOptions(max_steps=10, krylov=8))
    ),
}

SOLVERS: dict[str, Solver] = {
    **CP_SOLVERS,
    "tkd_cpd": lambda K, R, seed: tkd_cpd(K, R, ranks=within(K, R), options=SHORT_STABLE, seed=seed),
    "tucker2": lambda K, R, seed: tucker2(K, within(K, R)),
    "tucker2_bounded": lambda K, R, seed: tucker2_bounded(K, 0.3),
}


def is_monotone(history: Sequence[float], slack: float = 1e-13) -> bool:
    """Whether a history of relative errors never rises; squares may, by ``slack``, which is their rounding.

    NaN is a rise.
    """
    return all(later**2 <= earlier**2 + slack for earlier, later in itertools.pairwise(history)) and not any(
        math.isnan(error) for error in history
    )
