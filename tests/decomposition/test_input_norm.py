from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cases import gaussian, gaussian_cp
from polyadic.algebra import LowRank, Tucker2Tensor, order3_to_kernel
from polyadic.decomposition import InputNorm, ModeWeight, PatchMoments, tkd_cpd
from polyadic.errors import DecompositionError

T, S, D = 3, 4, 5  # a window of five taps along one axis


def spread(size: int, seed: int) -> Tensor:
    """A covariance with mean diagonal 1."""
    root = gaussian(size, size, seed=seed)
    M = root @ root.mT
    return M / M.diagonal().mean()


def patch_moments(Sigma: Tensor) -> PatchMoments:
    P = Sigma.shape[0]
    return PatchMoments(Sigma, torch.zeros(T, P).double(), torch.zeros(P).double(), torch.zeros(T).double(), 1.0, 10**6)


def norms() -> dict[str, InputNorm]:
    moments = patch_moments(torch.kron(spread(S, 1), spread(D, 2)))
    full = InputNorm.of_patches(moments, D, outputs=spread(T, 3))
    return {"channels": full.channels_only(), "patches": InputNorm.of_patches(moments, D), "with outputs": full}


FACTORS: dict[str, Any] = {
    "cp": gaussian_cp((D, S, T), 3),
    "tucker2": Tucker2Tensor(gaussian(D, 2, 2), gaussian(S, 2, seed=1), gaussian(T, 2, seed=2)),
    "tkd": tkd_cpd(gaussian(D, S, T), 2, ranks=(3, 2)).factors,
}


def test_the_weighed_error_is_the_output_error_where_the_covariance_is_a_kronecker_product() -> None:
    Sigma = torch.kron(spread(S, 1), spread(D, 2))
    K, other = gaussian(T, S, D, seed=4), gaussian(T, S, D, seed=5)
    norm = InputNorm.of_patches(patch_moments(Sigma), D, ridge=1e-9)
    E = (K - other).flatten(1)
    expected = float(((E @ Sigma) * E).sum())
    assert float((norm.weigh(K) - norm.weigh(other)).square().sum()) == pytest.approx(expected, rel=1e-6)


def test_the_weight_of_the_outputs_enters_the_first_mode() -> None:
    M, K = spread(T, 3), gaussian(T, S, D, seed=4)
    norm = InputNorm.of_patches(patch_moments(torch.eye(S * D).double()), D, ridge=1e-9, outputs=M)
    E = K.flatten(1)
    assert float(norm.weigh(K).square().sum()) == pytest.approx(float((E * (M @ E)).sum()), rel=1e-6)


@pytest.mark.parametrize("kind", ["channels", "patches", "with outputs"])
@pytest.mark.parametrize("format_", ["cp", "tucker2"])
def test_unweighing_takes_the_weight_off_again(kind: str, format_: str) -> None:
    factors, norm = FACTORS[format_], norms()[kind]
    kernel = order3_to_kernel(norm.unweigh(factors).full(), (D,))
    torch.testing.assert_close(norm.weigh(kernel), order3_to_kernel(factors.full(), (D,)), rtol=1e-9, atol=1e-9)


def test_factors_that_know_their_inputs_alone_are_unweighed_there_and_refused_elsewhere() -> None:
    norm = norms()["channels"]
    kernel = order3_to_kernel(norm.unweigh(FACTORS["tkd"]).full(), (D,))
    torch.testing.assert_close(norm.weigh(kernel), order3_to_kernel(FACTORS["tkd"].full(), (D,)))
    matrix = LowRank(gaussian(T, 2), gaussian(2, S))
    torch.testing.assert_close(norm.weigh(norm.unweigh(matrix).full()), matrix.full())
    for kind in ("patches", "with outputs"):
        with pytest.raises(DecompositionError, match="weighed over the input channels alone"):
            norms()[kind].unweigh(FACTORS["tkd"])


def test_a_matrix_has_no_window_to_weigh() -> None:
    norm = InputNorm.of_patches(patch_moments(spread(S, 1)), 1, ridge=1e-9)
    assert norm.taps is None
    assert set(norm.roots()) == {"channels"}
    K = gaussian(T, S)
    assert float(norm.weigh(K).square().sum()) == pytest.approx(float((K * (K @ spread(S, 1))).sum()), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_norm_does_not_depend_on_the_scale_of_the_images(scale: float) -> None:
    torch.testing.assert_close(ModeWeight.of(scale * spread(S, 1), 0.1).root, ModeWeight.of(spread(S, 1), 0.1).root)


@pytest.mark.parametrize(
    "moment", [torch.zeros(S, S), torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.0])), torch.ones(S, S)]
)
def test_directions_that_no_image_showed_keep_a_weight(moment: Tensor) -> None:
    weight = ModeWeight.of(moment, 0.1)
    assert float(torch.linalg.eigvalsh(weight.root).min()) >= 0.1**0.5 - 1e-9
    torch.testing.assert_close(weight.root @ weight.inverse_root, torch.eye(S).double())


@pytest.mark.parametrize(
    ("moment", "ridge", "words"),
    [
        (torch.ones(2, 3), 0.1, "square matrix"),
        (torch.full((2, 2), torch.nan), 0.1, "finite numbers"),
        (torch.eye(2), 0.0, "a ridge that keeps unseen directions"),
        (torch.eye(2), float("nan"), "a ridge that keeps unseen directions"),
    ],
)
def test_what_is_no_norm_is_refused(moment: Tensor, ridge: float, words: str) -> None:
    with pytest.raises(DecompositionError, match=words):
        InputNorm.of(moment, ridge)


@pytest.mark.parametrize("taps", [0, 3])
def test_taps_that_do_not_divide_the_patch_are_refused(taps: int) -> None:
    with pytest.raises(DecompositionError, match=f"a patch of 20 numbers has no {taps} taps"):
        InputNorm.of_patches(patch_moments(torch.eye(20).double()), taps)
