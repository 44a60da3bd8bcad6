"""Rank and noise of a matrix by analytic EVBMF."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from torch import Tensor

from cases import gaussian
from polyadic.decomposition import evbmf_rank, evbmf_tucker2_ranks, support_core, tucker2
from polyadic.errors import DecompositionError

SIDES = st.integers(1, 12)


def planted(rows: int, columns: int, rank: int, noise: float, seed: int = 0) -> Tensor:
    """Orthonormal components of strength 4 times what the noise alone would reach, and the noise."""
    U, V = (torch.linalg.qr(gaussian(size, rank, seed=seed + size)).Q for size in (rows, columns))
    strength = 4 * noise * (math.sqrt(rows) + math.sqrt(columns))
    return strength * U @ V.mT + noise * gaussian(rows, columns, seed=seed + 1)


def free_energy_of_one(s: float, L: int, M: int, variance: float) -> float:
    """Twice the free energy of the best posterior of a component, relative to that of no component, by L-BFGS.

    The posteriors are N(a u, s_a I) of M coordinates and N(b v, s_b I) of L; the best prior variances are
    ``c_a = a^2 / M + s_a`` and ``c_b = b^2 / L + s_b`` (Nakajima et al. 2013, section 2).
    """

    def energy(logs: np.ndarray) -> float:
        a, b, s_a, s_b = np.exp(logs)
        entropy = M * math.log(a * a / (M * s_a) + 1) + L * math.log(b * b / (L * s_b) + 1)
        return entropy + ((a * a + M * s_a) * (b * b + L * s_b) - 2 * s * a * b) / variance

    start = np.log([s**0.5, s**0.5, variance / s, variance / s])
    return float(minimize(energy, start, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9}).fun)


def literal_omega(s: np.ndarray, M: int, variance: float) -> float:
    """The free energy of Nakajima et al., component by component."""
    L = len(s)
    alpha = L / M
    least = brentq(lambda tau: math.log(tau + 1) + alpha * math.log(tau / alpha + 1) - tau, 0.1 * alpha**0.5, 10)
    threshold = (1 + least) * (1 + alpha / least)
    total = 0.0
    for value in s:
        x = value**2 / (M * variance)
        total += x - math.log(x)
        if x > threshold:
            tau = (x - (1 + alpha) + math.sqrt((x - (1 + alpha)) ** 2 - 4 * alpha)) / 2
            total += math.log(tau + 1) + alpha * math.log(tau / alpha + 1) - tau
    return total


@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(30, 30, 5), (20, 60, 4), (60, 20, 4), (16, 400, 8), (40, 50, 0)]
)
@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_a_planted_rank_and_its_noise_are_found(rows: int, columns: int, rank: int, noise: float) -> None:
    found = evbmf_rank(planted(rows, columns, rank, noise) if rank else noise * gaussian(rows, columns))
    assert found.rank == rank == len(found.singular_values)
    assert found.noise_variance == pytest.approx(noise**2, rel=0.15)


@given(SIDES, SIDES, st.integers(0, 100))
def test_the_noise_has_the_least_free_energy_on_a_fine_grid(rows: int, columns: int, seed: int) -> None:
    """Between the bounds of Nakajima et al.; a grid of 4000 variances finds none that is better."""
    Y = planted(rows, columns, max(1, min(rows, columns) // 3), 0.3, seed) + gaussian(rows, columns, seed=seed)
    L, M = sorted((rows, columns))
    s = torch.linalg.svdvals(Y).numpy()
    found = evbmf_rank(Y)
    alpha = L / M
    least = brentq(lambda tau: math.log(tau + 1) + alpha * math.log(tau / alpha + 1) - tau, 0.1 * alpha**0.5, 10)
    H = max(0, math.ceil(L / (1 + alpha)) - 1)
    lower = max(s[H] ** 2 / ((1 + least) * (1 + alpha / least)), (s[H:] ** 2).mean()) / M
    upper = (s**2).sum() / (L * M)
    assert lower * (1 - 1e-9) <= found.noise_variance <= upper * (1 + 1e-9)
    energies = [literal_omega(s, M, v) for v in np.geomspace(lower, upper, 300)]
    assert literal_omega(s, M, found.noise_variance) <= min(energies) + 1e-9


@pytest.mark.parametrize(("L", "M"), [(6, 6), (5, 20), (3, 60)])
@pytest.mark.parametrize(("factor", "rank"), [(0.999, 0), (1.001, 1), (3.0, 1)])
def test_a_component_is_kept_where_its_best_posterior_has_less_free_energy_than_none(
    L: int, M: int, factor: float, rank: int
) -> None:
    s = factor * evbmf_rank(gaussian(L, M), noise_variance=1.0).threshold
    Y = torch.zeros(L, M, dtype=torch.float64)
    Y[0, 0] = s
    assert evbmf_rank(Y, noise_variance=1.0).rank == rank
    assert (free_energy_of_one(s, L, M, 1.0) < 0) == bool(rank)


def test_components_are_shrunk_by_what_noise_adds() -> None:
    """``s/2 (1 - (L + M) v / s^2 + sqrt((1 - (L + M) v / s^2)^2 - 4 L M v^2 / s^4))``, Nakajima et al. 2013."""
    L, M, v = 5, 20, 0.5
    Y = torch.zeros(L, M, dtype=torch.float64)
    values = (30.0, 10.0)
    Y[0, 0], Y[1, 1] = values
    rest = [1 - (L + M) * v / s**2 for s in values]
    expected = [s / 2 * (q + math.sqrt(q**2 - 4 * L * M * v**2 / s**4)) for s, q in zip(values, rest, strict=True)]
    assert evbmf_rank(Y, noise_variance=v).singular_values.tolist() == pytest.approx(expected, rel=1e-10)


@given(SIDES, SIDES, st.integers(0, 100))
def test_the_transpose_has_the_same_rank_and_noise(rows: int, columns: int, seed: int) -> None:
    Y = planted(rows, columns, 1, 0.2, seed)
    one, other = evbmf_rank(Y), evbmf_rank(Y.mT)
    assert one.rank == other.rank
    assert one.noise_variance == pytest.approx(other.noise_variance, rel=1e-6)
    assert one.threshold == pytest.approx(other.threshold, rel=1e-6)


@given(SIDES, SIDES, st.integers(0, 100), st.sampled_from([1e-30, 1e-3, 1e30]))
def test_the_scale_of_the_matrix_changes_nothing_but_the_scale(
    rows: int, columns: int, seed: int, factor: float
) -> None:
    Y = planted(rows, columns, 1, 0.2, seed)
    plain, scaled = evbmf_rank(Y), evbmf_rank(factor * Y)
    assert scaled.rank == plain.rank
    assert scaled.noise_variance == pytest.approx(factor**2 * plain.noise_variance, rel=1e-6)
    torch.testing.assert_close(scaled.singular_values / factor, plain.singular_values, rtol=1e-6, atol=1e-9)


def test_more_noise_leaves_fewer_components() -> None:
    Y = planted(20, 30, 6, 0.5) + 0.5 * planted(20, 30, 3, 0.5, seed=4)
    ranks = [evbmf_rank(Y, noise_variance=v).rank for v in (1e-6, 0.3, 1.0, 30.0, 1e4)]
    assert ranks == sorted(ranks, reverse=True)
    assert (ranks[0], ranks[-1]) == (20, 0)


@given(SIDES, SIDES, st.integers(0, 100))
def test_at_most_h_components_are_found(rows: int, columns: int, seed: int) -> None:
    L, M = sorted((rows, columns))
    assert evbmf_rank(gaussian(rows, columns, seed=seed)).rank <= max(0, math.ceil(L / (1 + L / M)) - 1)


def test_a_zero_matrix_has_no_component_and_no_noise() -> None:
    found = evbmf_rank(torch.zeros(4, 7))
    assert (found.rank, found.noise_variance, found.threshold) == (0, 0.0, 0.0)
    assert evbmf_rank(torch.zeros(4, 7), noise_variance=1.0).rank == 0


@pytest.mark.parametrize("shape", [(30, 40), (40, 30)])
def test_an_exact_low_rank_is_found_without_noise(shape: tuple[int, int]) -> None:
    Y = gaussian(shape[0], 6) @ gaussian(6, shape[1], seed=1)
    found = evbmf_rank(Y)
    assert found.rank == 6
    assert found.noise_variance < 1e-25
    torch.testing.assert_close(found.singular_values, torch.linalg.svdvals(Y)[:6], rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_a_single_row_or_column_is_noise(shape: tuple[int, int]) -> None:
    assert evbmf_rank(torch.ones(shape)).rank == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_type_and_layout_gives_the_same_rank(dtype: torch.dtype) -> None:
    Y = planted(20, 30, 4, 0.1)
    assert evbmf_rank(Y.to(dtype)).rank == 4
    assert evbmf_rank(Y.to(dtype).mT.contiguous().mT).rank == 4


def test_tucker_ranks_are_those_of_the_two_unfoldings() -> None:
    K = tucker2(gaussian(9, 12, 16), (3, 5)).factors.full()
    noisy = K + 0.01 * float(K.norm() / K.numel() ** 0.5) * gaussian(9, 12, 16, seed=3)
    assert evbmf_tucker2_ranks(noisy) == (3, 5)
    by_hand = [noisy.permute(1, 0, 2).reshape(12, -1), noisy.permute(2, 0, 1).reshape(16, -1)]
    assert evbmf_tucker2_ranks(noisy) == tuple(evbmf_rank(Y).rank for Y in by_hand)


@pytest.mark.parametrize("K", [torch.zeros(9, 4, 5), torch.ones(1, 1, 1), gaussian(1, 1, 6), gaussian(9, 3, 1)])
def test_tucker_ranks_are_at_least_one(K: Tensor) -> None:
    R1, R2 = evbmf_tucker2_ranks(K)
    assert 1 <= R1 <= K.shape[1]
    assert 1 <= R2 <= K.shape[2]


def test_trained_kernels_keep_between_a_tenth_and_a_half_of_their_channels(
    resnet56_kernel: Callable[[str], Tensor],
) -> None:
    K = resnet56_kernel("layer3.8.conv1")
    assert evbmf_tucker2_ranks(K) == (21, 25)


Y = gaussian(4, 5)
WRONG = {
    "NaN": (lambda: evbmf_rank(Y * math.nan), "20 of 20 NaN or Inf"),
    "order 3": (lambda: evbmf_rank(gaussian(2, 3, 4)), "order 2"),
    "empty": (lambda: evbmf_rank(torch.ones(0, 4)), "without empty modes"),
    "integers": (lambda: evbmf_rank(torch.ones(2, 3, dtype=torch.int64)), "floating-point"),
    "no noise": (lambda: evbmf_rank(Y, noise_variance=0.0), "positive number; got 0.0"),
    "negative noise": (lambda: evbmf_rank(Y, noise_variance=-1.0), "positive number"),
    "NaN noise": (lambda: evbmf_rank(Y, noise_variance=math.nan), "positive number"),
    "infinite noise": (lambda: evbmf_rank(Y, noise_variance=math.inf), "positive number"),
    "kernel of order 4": (lambda: evbmf_tucker2_ranks(gaussian(2, 2, 3, 3)), "order 3"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_request_is_refused_with_a_sentence(wrong: str) -> None:
    request, message = WRONG[wrong]
    with pytest.raises(DecompositionError, match=message):
        request()


def test_the_core_of_a_factorised_kernel_has_its_singular_values_and_no_empty_directions() -> None:
    core = gaussian(9, 5, 7, seed=2)
    U, V = torch.linalg.qr(gaussian(12, 5, seed=3)).Q, torch.linalg.qr(gaussian(16, 7, seed=4)).Q
    K = torch.einsum("dst,as,bt->dab", core, U, V)
    found = support_core(K.float())  # as a fine-tuned chain is contracted: in single precision
    assert found.shape == (9, 5, 7)
    for mode in (1, 2):
        unfolded, expected = (torch.linalg.svdvals(X.movedim(mode, 0).flatten(1).double()) for X in (found, core))
        torch.testing.assert_close(unfolded, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(support_core(core), core)


def test_evbmf_finds_the_rank_within_a_factorised_kernel_and_not_that_of_its_factorisation() -> None:
    signal = 12 * torch.einsum("dr,sr,tr->dst", *(torch.linalg.qr(gaussian(n, 2, seed=n)).Q for n in (9, 20, 24)))
    core = signal + 0.1 * gaussian(9, 20, 24, seed=5)
    U, V = torch.linalg.qr(gaussian(32, 20, seed=6)).Q, torch.linalg.qr(gaussian(40, 24, seed=7)).Q
    K = torch.einsum("dst,as,bt->dab", core, U, V).float()
    assert evbmf_tucker2_ranks(support_core(K)) == evbmf_tucker2_ranks(core) == (2, 2)
    assert max(evbmf_tucker2_ranks(K)) > 10, "rounding is taken for the noise"


def test_a_kernel_of_nothing_keeps_one_direction() -> None:
    assert support_core(torch.zeros(9, 4, 5)).shape == (9, 1, 1)


STORED = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_what_a_matrix_lost_when_it_was_stored_is_no_signal(dtype: torch.dtype, rank: int, scale: float) -> None:
    exact = scale * gaussian(50, rank, seed=1) @ gaussian(rank, 80, seed=2)
    if dtype is torch.float8_e4m3fn and scale < 1:
        return  # all below its smallest number
    assert evbmf_rank(exact.to(dtype)).rank == rank
    assert evbmf_rank(exact.to(dtype).double(), stored=dtype).rank == rank


@pytest.mark.parametrize("dtype", STORED[:4])
def test_tucker2_ranks_and_the_core_see_no_signal_in_rounding(dtype: torch.dtype) -> None:
    K = torch.einsum("ia,ja,ka->ijk", gaussian(9, 2), gaussian(40, 2, seed=1), gaussian(60, 2, seed=2)).to(dtype)
    assert evbmf_tucker2_ranks(K) == (2, 2)
    assert support_core(K).shape == (9, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_signal_above_rounding_is_kept_in_every_type(dtype: torch.dtype) -> None:
    assert evbmf_rank(planted(30, 40, 4, 0.05).to(dtype)).rank == 4
