from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kernels import SHAPE, gaussian
from torch import Tensor

from polyadic.studies import ALL_CUTS, Cut, Spectrum
from polyadic.studies.spectrum import gaussian_like, perturb, seeded_generator


def flat(cut: Cut) -> Tensor:
    """A kernel whose singular values along ``cut`` are all 3."""
    rows, columns = cut.matrix(torch.zeros(SHAPE)).shape
    Q = torch.linalg.qr(gaussian(max(rows, columns), min(rows, columns)))[0]
    return cut.folded(3.0 * (Q if rows > columns else Q.mT), SHAPE)


@pytest.mark.parametrize("cut", ALL_CUTS, ids=str)
def test_a_rank_one_kernel_has_no_entropy(cut: Cut) -> None:
    K = torch.einsum("o,i,h,w->oihw", *(gaussian(size, seed=size) for size in SHAPE))
    spectrum = Spectrum.of(K, cut)
    assert spectrum.entropy == pytest.approx(0.0, abs=1e-12)
    assert spectrum.effective_rank == pytest.approx(1.0)
    assert spectrum.participation == pytest.approx(1.0)


@pytest.mark.parametrize("cut", ALL_CUTS, ids=str)
def test_a_flat_spectrum_has_the_entropy_log_n(cut: Cut) -> None:
    spectrum, n = Spectrum.of(flat(cut), cut), cut.largest_rank(SHAPE)
    assert spectrum.entropy == pytest.approx(math.log(n), abs=1e-12)
    assert spectrum.effective_rank == pytest.approx(n)
    assert spectrum.participation == pytest.approx(n)
    assert spectrum.norm_loss(n - 1) == pytest.approx(math.sqrt(1 / n))


@pytest.mark.parametrize("cut", ALL_CUTS, ids=str)
def test_entropy_is_that_of_the_squared_singular_values(cut: Cut) -> None:
    K = gaussian()
    p = np.linalg.svd(cut.matrix(K).numpy(), compute_uv=False) ** 2
    p /= p.sum()
    spectrum = Spectrum.of(K.float(), cut)
    assert spectrum.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert spectrum.participation == pytest.approx(1 / (p**2).sum(), rel=1e-5)


def test_a_kernel_of_zeros_has_nothing_to_lose() -> None:
    spectrum = Spectrum.of(torch.zeros(SHAPE), ALL_CUTS[0])
    assert (spectrum.entropy, spectrum.effective_rank, spectrum.participation) == (0.0, 1.0, 1.0)
    assert spectrum.norm_loss(1) == 0.0


def test_the_random_kernel_has_the_norm_of_the_trained_one() -> None:
    K = 7.0 * gaussian().float()
    other = gaussian_like(K, seeded_generator(0, "a"))
    assert float(other.norm()) == pytest.approx(float(K.norm()), rel=1e-6)
    assert (other.shape, other.dtype) == (K.shape, K.dtype)
    assert abs(float((other * K).sum() / K.norm() ** 2)) < 0.4  # and nothing of its direction


def test_a_perturbation_is_as_long_as_the_truncation_error() -> None:
    K = gaussian()
    short = 0.3 * K
    noisy = perturb(K, short, seeded_generator(0, "b"))
    assert float((noisy - K).norm()) == pytest.approx(0.7 * float(K.norm()), rel=1e-12)
    assert torch.equal(perturb(K, K, seeded_generator(0, "b")), K)


def test_random_numbers_are_known_by_seed_and_purpose() -> None:
    drawn = [
        torch.randn(3, generator=seeded_generator(seed, *names))
        for seed, *names in ((0, "a", "b"), (0, "ab"), (1, "a", "b"))
    ]
    assert torch.equal(torch.randn(3, generator=seeded_generator(0, "a", "b")), drawn[0])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
