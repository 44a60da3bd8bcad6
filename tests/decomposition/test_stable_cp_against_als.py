"""Stable CP is held against plain ALS: never far above it while called converged, whatever the spectrum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from polyadic.algebra import CPTensor
from polyadic.decomposition import (
    ALSOptions,
    RidgeOptions,
    StableOptions,
    StopReason,
    cp_als,
    cp_ridge,
    full_rank,
    stable_cp,
    stable_cp_batch,
    tkd_cpd,
)
from polyadic.formats import format_named
from polyadic.formats.cp import SWIFT
from polyadic.schema import ConvSpec

FEW_SWEEPS = ALSOptions(max_sweeps=15)


def flat(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def decaying(*shape: int) -> Tensor:
    """Singular values of every unfolding fall about as 1 / n."""
    random, X = torch.Generator().manual_seed(sum(shape)), flat(*shape)
    for size in shape:
        Q = torch.linalg.qr(torch.randn(size, size, generator=random)).Q
        X = torch.tensordot(X, Q / torch.arange(1, size + 1), dims=([0], [0]))
    return X


def spiked(*shape: int) -> Tensor:
    """One rank-one term with a tenth of the energy, and noise."""
    random, noise = torch.Generator().manual_seed(sum(shape) + 1), flat(*shape)
    spike = CPTensor(tuple(torch.randn(size, 1, generator=random) for size in shape)).full()
    return noise / noise.norm() * 0.9**0.5 + spike / spike.norm() * 0.1**0.5


def assert_as_good_as_als(K: Tensor, rank: int, options: StableOptions) -> None:
    stable, plain = stable_cp(K, rank, options), cp_als(K, rank, FEW_SWEEPS)
    if stable.relative_error > 1e-5 and stable.relative_error > 1.005 * plain.relative_error:
        assert stable.stop is not StopReason.CONVERGED
        # what is missing is paid with sensitivity: the terms are there
        assert 1 - stable.relative_error**2 >= 0.9 * (1 - plain.relative_error**2)


SMALL = [(9, 4, 4), (9, 8, 12), (3, 5, 4, 3), (9, 64, 64)]
LARGE = [(49, 32, 32), (9, 128, 128), (9, 512, 512)]
spectra = pytest.mark.parametrize("spectrum", [flat, decaying, spiked])


@spectra
@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1.0])
def test_no_spectrum_ends_far_above_als_and_converged(
    spectrum: Callable[..., Tensor], shape: tuple[int, ...], share: float
) -> None:
    most = min(full_rank(shape) - 1, 24)
    assert_as_good_as_als(spectrum(*shape), max(1, round(share * most)), SWIFT)


@pytest.mark.slow
@spectra
@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("rank", [1, 4, 64])
def test_no_large_tensor_ends_far_above_als_and_converged(
    spectrum: Callable[..., Tensor], shape: tuple[int, ...], rank: int
) -> None:
    assert_as_good_as_als(spectrum(*shape), rank, SWIFT)


@pytest.mark.parametrize("layer", ["layer2.4.conv1", "layer3.0.conv1"])
@pytest.mark.parametrize("rank", [1, 6, 24])
def test_no_trained_kernel_ends_far_above_als_and_converged(
    resnet56_kernel: Callable[[str], Tensor], layer: str, rank: int
) -> None:
    assert_as_good_as_als(resnet56_kernel(layer), rank, SWIFT)


def test_a_layer_as_torch_initialises_it_keeps_its_terms() -> None:
    """The first penalty is stronger than a term of a large flat tensor can pay; the path goes on to weaker ones."""
    torch.manual_seed(0)
    K = nn.Conv2d(128, 128, 3, bias=False).weight.detach().flatten(2).permute(2, 1, 0)
    stable, plain = stable_cp(K, 4, SWIFT), cp_als(K, 4, FEW_SWEEPS)
    assert stable.relative_error < 1.002 * plain.relative_error
    assert stable.stability.sum_squared_intensity > 0.4 * plain.stability.sum_squared_intensity
    assert cp_ridge(K, 4, SWIFT.ridge).relative_error < 1.002 * plain.relative_error


def test_in_a_batch_each_tensor_is_held_against_als_as_it_is_alone() -> None:
    tensors = [flat(9, 96, 96), decaying(9, 96, 96), torch.zeros(9, 96, 96)]
    for K, together in zip(tensors, stable_cp_batch(tensors, 3, SWIFT), strict=True):
        alone = stable_cp(K, 3, SWIFT)
        assert together.stop is alone.stop
        assert together.relative_error == pytest.approx(alone.relative_error, abs=1e-9)


def test_terms_that_died_under_a_penalty_that_stays_are_revived() -> None:
    held = RidgeOptions(strongest=1e-1, weakest=1e-1, max_sweeps=30)
    K = flat(9, 32, 32)
    path = cp_ridge(K, 4, held)
    assert path.relative_error > 0.999
    assert path.stop is StopReason.DEAD
    stable, plain = stable_cp(K, 4, StableOptions(ridge=held, starts=1)), cp_als(K, 4, FEW_SWEEPS)
    assert stable.relative_error <= plain.relative_error * (1 + 1e-9)


def test_an_error_that_stays_above_als_for_its_stability_says_so() -> None:
    """Here ALS pays for its error with sensitivity (the textbook trade), and the path does not follow."""
    K = decaying(9, 8, 8)
    strict = StableOptions(ridge=RidgeOptions(share=0.5, max_sweeps=500), starts=1)
    stable, plain = stable_cp(K, 6, strict), cp_als(K, 6, FEW_SWEEPS)
    assert stable.relative_error > 1.005 * plain.relative_error
    assert stable.stability.sensitivity < plain.stability.sensitivity
    assert stable.stop is StopReason.STABLE


@pytest.mark.parametrize("name", ["cp-epc", "cp4-epc", "tkd-cpd-epc"])
def test_formats_that_stand_on_it_keep_their_terms(name: str) -> None:
    torch.manual_seed(0)
    spec = ConvSpec(64, 64, (3, 3), (1, 1), (1, 1), (1, 1))
    kernel = torch.randn(spec.weight_shape)
    fmt = format_named(name)
    rank = (48, 48, 4) if name == "tkd-cpd-epc" else (4,)
    plain = cp_als(kernel.flatten(2).permute(2, 1, 0), 4, FEW_SWEEPS)
    # a CP of order 4 has a factor more to pay for every term
    assert fmt.factorise(kernel, spec, rank).relative_error < 1.01 * plain.relative_error


def test_the_core_of_a_tkd_cpd_keeps_its_terms() -> None:
    K = flat(9, 96, 96)
    found, plain = tkd_cpd(K, 3, ranks=(80, 80), options=SWIFT), cp_als(K, 3, FEW_SWEEPS)
    assert found.relative_error < 1.003 * plain.relative_error
