from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cases import gaussian
from polyadic.decomposition import PatchMoments, fitted_bias, fitted_kernel
from polyadic.errors import DecompositionError

P, T = 6, 3


def rows(count: int = 40, seed: int = 0, mean: float = 1.0) -> tuple[Tensor, Tensor]:
    """Correlated patches with means that are not zero, and targets that follow them with noise."""
    y = gaussian(count, P, seed=seed) @ gaussian(P, P, seed=seed + 1) + mean * torch.arange(1.0, P + 1)
    t = y @ gaussian(P, T, seed=seed + 2) + gaussian(count, T, seed=seed + 3) + mean * torch.arange(T)
    return y, t


def moments(count: int = 40, seed: int = 0, bias: bool = True) -> PatchMoments:
    return PatchMoments.of([rows(count, seed)], bias)


def least_squares(y: Tensor, t: Tensor, bias: bool = True) -> tuple[Tensor, Tensor]:
    """Kernel and bias by numpy's lstsq."""
    columns = np.hstack([y.numpy(), np.ones((len(y), 1))]) if bias else y.numpy()
    solution = torch.from_numpy(np.linalg.lstsq(columns, t.numpy(), rcond=None)[0]).mT
    return solution[:, :P], solution[:, P] if bias else torch.zeros(T, dtype=torch.float64)


@pytest.mark.parametrize("cuts", [(40,), (1, 39), (13, 13, 14), (1,) * 40])
def test_moments_are_their_definition_however_the_rows_are_cut(cuts: tuple[int, ...]) -> None:
    y, t = rows()
    found = PatchMoments.of(zip(y.split(list(cuts)), t.split(list(cuts)), strict=True))
    cov = torch.from_numpy(np.cov(np.hstack([y, t]).T, bias=True))
    torch.testing.assert_close(found.Sigma, cov[:P, :P], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.C, cov[P:, :P], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.patch_mean, y.mean(0))
    torch.testing.assert_close(found.target_mean, t.mean(0))
    assert found.target_variance == pytest.approx(float(cov.diagonal()[P:].sum()), rel=1e-10)
    assert found.count == 40


def test_without_a_bias_moments_are_about_zero() -> None:
    y, t = rows()
    found = PatchMoments.of([(y, t)], bias=False)
    torch.testing.assert_close(found.Sigma, y.mT @ y / 40)
    torch.testing.assert_close(found.C, t.mT @ y / 40)
    assert not found.patch_mean.any()
    assert not found.target_mean.any()
    assert found.target_variance == pytest.approx(float(t.square().sum()) / 40)


@pytest.mark.parametrize("bias", [True, False])
def test_the_fit_without_a_ridge_is_that_of_lstsq(bias: bool) -> None:
    y, t = rows()
    found = PatchMoments.of([(y, t)], bias)
    kernel = fitted_kernel(gaussian(T, P, seed=9), found, ridge=0.0)
    K, b = least_squares(y, t, bias)
    torch.testing.assert_close(kernel, K, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fitted_bias(kernel, found), b, rtol=1e-8, atol=1e-8)


def test_the_fit_with_a_ridge_is_that_of_lstsq_with_rows_that_ask_for_the_given_kernel() -> None:
    y, t = rows()
    found, K0, ridge = moments(), gaussian(T, P, seed=9), 0.3
    r = ridge * float((y - y.mean(0)).square().mean())
    asked = np.vstack([(y - y.mean(0)).numpy(), np.sqrt(40 * r) * np.eye(P)])
    answers = np.vstack([(t - t.mean(0)).numpy(), np.sqrt(40 * r) * K0.numpy().T])
    K = torch.from_numpy(np.linalg.lstsq(asked, answers, rcond=None)[0]).mT
    torch.testing.assert_close(fitted_kernel(K0, found, ridge), K, rtol=1e-9, atol=1e-9)


def test_the_fitted_bias_leaves_no_mean_error_whatever_the_kernel() -> None:
    y, t = rows()
    K = gaussian(T, P, seed=4)
    answer = y @ K.mT + fitted_bias(K, moments())
    torch.testing.assert_close((t - answer).mean(0), torch.zeros(T, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.03, 10.0])
def test_a_kernel_that_already_answers_right_stays(ridge: float) -> None:
    y, _ = rows()
    K = gaussian(T, 2, 3, seed=4)
    found = PatchMoments.of([(y, y @ K.flatten(1).mT + 5.0)])
    torch.testing.assert_close(fitted_kernel(K, found, ridge), K, rtol=1e-8, atol=1e-8)
    assert found.output_error(K) < 1e-6


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 0, 1), (1, 2, 2)])
def test_the_whole_patch_norm_is_the_error_that_a_convolution_makes(stride: int, padding: int, dilation: int) -> None:
    x, K, other = gaussian(2, 2, 7, 6), gaussian(T, 2, 3, 3, seed=1), gaussian(T, 2, 3, 3, seed=2)
    y = F.unfold(x, 3, padding=padding, stride=stride, dilation=dilation).transpose(1, 2).reshape(-1, 18)
    t, made = (F.conv2d(x, kernel, None, stride, padding, dilation) for kernel in (K, other))
    found = PatchMoments.of([(y, t.movedim(1, -1).reshape(-1, T))])
    error = t - made
    error, spread = error - error.mean((0, 2, 3), keepdim=True), t - t.mean((0, 2, 3), keepdim=True)
    assert found.output_error(other) == pytest.approx(float(error.norm() / spread.norm()), rel=1e-10)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_positions_than_unknowns_are_safe_with_a_ridge_and_refused_without(count: int) -> None:
    y, t = rows(count)
    found = PatchMoments.of([(y, t)])
    K = gaussian(T, P, seed=9)
    fitted = fitted_kernel(K, found, 0.1)
    assert torch.isfinite(fitted).all()
    unseen = torch.linalg.svd(y - y.mean(0)).Vh[max(count - 1, 0) :]  # directions that no patch shows
    torch.testing.assert_close(fitted @ unseen.mT, K @ unseen.mT, rtol=1e-6, atol=1e-6)
    if count == 1:
        torch.testing.assert_close(fitted, K)
        with pytest.raises(DecompositionError, match="singular: take more images"):
            fitted_kernel(K, found, 0.0)


def test_a_channel_that_never_varies_keeps_its_column() -> None:
    y, t = rows()
    y[:, 2] = 7.0
    K = gaussian(T, P, seed=9)
    fitted = fitted_kernel(K, PatchMoments.of([(y, t)]), 1e-3)
    torch.testing.assert_close(fitted[:, 2], K[:, 2])
    assert not torch.allclose(fitted[:, 3], K[:, 3])


def test_nothing_that_varies_leaves_the_kernel_and_moves_the_bias() -> None:
    y, t = torch.full((5, P), 2.0), torch.full((5, T), 3.0)
    found, K = PatchMoments.of([(y, t)]), gaussian(T, P)
    assert torch.equal(fitted_kernel(K, found), K)
    torch.testing.assert_close(fitted_bias(K, found), 3.0 - 2.0 * K.sum(1))


@pytest.mark.parametrize("mean", [1e3, 1e4])
def test_a_large_mean_in_single_precision_does_not_drown_the_covariance(mean: float) -> None:
    y, t = (x.float() for x in rows(mean=mean))
    exact = torch.from_numpy(np.cov(y.double().numpy().T, bias=True))
    torch.testing.assert_close(PatchMoments.of([(y, t)]).Sigma, exact, rtol=1e-3, atol=1e-3 * float(exact.max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_shape_and_dtype_of_the_kernel_stay(dtype: torch.dtype, size: float) -> None:
    K = (size * gaussian(T, 2, 3)).to(dtype)
    fitted = fitted_kernel(K, moments(), 0.1)
    assert (fitted.shape, fitted.dtype) == (K.shape, dtype)
    assert torch.isfinite(fitted).all()


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_ridge_follows_the_scale_of_the_data(scale: float) -> None:
    y, t = rows()
    K = gaussian(T, P, seed=9)
    once = fitted_kernel(K, PatchMoments.of([(y, t)]), 0.1)
    scaled = fitted_kernel(K, PatchMoments.of([(scale * y, scale * t)]), 0.1)
    torch.testing.assert_close(scaled, once, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_rows_that_are_not_finite_are_refused(value: float, which: int) -> None:
    both = rows()
    both[which][3, 1] = value
    with pytest.raises(DecompositionError, match="NaN or Inf among the inputs or the targets"):
        PatchMoments.of([both])


def test_what_does_not_belong_together_is_refused() -> None:
    y, t = rows()
    with pytest.raises(DecompositionError, match="at least one position; got none"):
        PatchMoments.of([])
    for pair in ((y[:5], t), (y[:0], t[:0]), (y[0], t[0])):
        with pytest.raises(DecompositionError, match="n x P patches and n x T targets"):
            PatchMoments.of([pair])
    with pytest.raises(DecompositionError, match=r"the moments are of \(3, 6\)"):
        fitted_kernel(gaussian(T, P + 1), moments())
    for ridge in (-0.1, float("nan")):
        with pytest.raises(DecompositionError, match="a ridge is a number >= 0"):
            fitted_kernel(gaussian(T, P), moments(), ridge)
