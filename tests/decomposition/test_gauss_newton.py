"""Structured Gauss-Newton products against automatic differentiation, conjugate gradients against a direct solver."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev

from cases import batch_of, gaussian, gaussian_cp
from polyadic.algebra import CPTensor
from polyadic.decomposition.alternation import UnitTensors
from polyadic.decomposition.gauss_newton import NormalEquations, conjugate_gradients, dot

SHAPES = [(2, 3, 4), (1, 3, 3), (2, 2, 3, 3), (1, 2, 2, 3), (2, 2, 2, 2, 3)]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
every_shape = pytest.mark.parametrize("shape", SHAPES)
MEMBERS = 2
R = 2


def points(shape: tuple[int, ...]) -> tuple[UnitTensors, CPTensor, NormalEquations]:
    unit = UnitTensors.of(gaussian(MEMBERS, *shape))
    cp = batch_of(*(gaussian_cp(shape, R, seed=member) for member in range(MEMBERS)))
    return unit, cp, NormalEquations.at(unit, cp)


def tensor_of(theta: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The CP tensor of stacked factors ((I_1 + ... + I_N) x R)."""
    letters = "ijklmn"[: len(shape)]
    formula = ",".join(f"{letter}r" for letter in letters) + "->" + letters
    return torch.einsum(formula, *torch.split(theta, list(shape)))


def stacked(cp: CPTensor, member: int) -> Tensor:
    return torch.cat([U[member] for U in cp.factors])


def jacobian(cp: CPTensor, member: int) -> Tensor:
    """``d vec(X^) / d theta`` by automatic differentiation."""
    theta = stacked(cp, member)
    J: Tensor = jacrev(lambda t: tensor_of(t, cp.shape).flatten())(theta)
    return J.reshape(J.shape[0], theta.numel())


@every_shape
def test_the_product_with_the_normal_matrix_is_that_of_the_jacobian(shape: tuple[int, ...]) -> None:
    _, cp, at = points(shape)
    d = gaussian(MEMBERS, sum(shape), R, seed=9)
    for member in range(MEMBERS):
        J = jacobian(cp, member)
        torch.testing.assert_close(at.apply(d)[member].flatten(), J.mT @ (J @ d[member].flatten()), **CLOSE)


@every_shape
def test_the_gradient_and_the_error_are_those_of_automatic_differentiation(shape: tuple[int, ...]) -> None:
    unit, cp, at = points(shape)
    for member in range(MEMBERS):

        def half_squared_error(theta: Tensor, X: Tensor = unit.X[member]) -> Tensor:
            return (X - tensor_of(theta, shape)).square().sum() / 2

        theta = stacked(cp, member)
        torch.testing.assert_close(at.gradient[member], grad(half_squared_error)(theta), **CLOSE)
        assert float(at.error[member]) == pytest.approx(2 * float(half_squared_error(theta)), rel=1e-10)


@every_shape
def test_the_gradient_of_the_sensitivity_is_that_of_automatic_differentiation(shape: tuple[int, ...]) -> None:
    _, cp, at = points(shape)
    for member in range(MEMBERS):

        def half_sensitivity(theta: Tensor) -> Tensor:
            norms = [U.square().sum(0) for U in torch.split(theta, list(shape))]
            terms = [
                size * torch.stack([norm for m, norm in enumerate(norms) if m != n]).prod(0).sum()
                for n, size in enumerate(shape)
            ]
            return torch.stack(terms).sum() / 2

        expected = grad(half_sensitivity)(stacked(cp, member))
        torch.testing.assert_close(at.sensitivity_gradient()[member], expected, **CLOSE)


@every_shape
def test_the_preconditioner_solves_the_diagonal_blocks(shape: tuple[int, ...]) -> None:
    _, cp, at = points(shape)
    nu, mu = torch.tensor([0.3, 2.0], dtype=torch.float64), torch.tensor([0.1, 0.0], dtype=torch.float64)
    d = gaussian(MEMBERS, sum(shape), R, seed=9)
    for member in range(MEMBERS):
        J, first = jacobian(cp, member), 0
        solved = at.block_solver(nu, mu)(d)[member]
        for size, weight in zip(shape, at.weights, strict=True):
            rows = slice(first, first + size)
            part = J.reshape(-1, sum(shape), R)[:, rows].flatten(1)
            block = part.mT @ part + torch.diag((mu[member] * weight[member]).repeat(size) + nu[member])
            expected = torch.linalg.solve(block, d[member, rows].flatten()).reshape(size, R)
            torch.testing.assert_close(solved[rows], expected, rtol=1e-8, atol=1e-8)
            first += size


@every_shape
def test_conjugate_gradients_solve_what_a_direct_solver_solves(shape: tuple[int, ...]) -> None:
    """Members have dampings of their own, hence need different numbers of steps."""
    _, cp, at = points(shape)
    nu, mu = torch.tensor([1e-2, 5.0], dtype=torch.float64), torch.zeros(MEMBERS).double()
    right = gaussian(MEMBERS, sum(shape), R, seed=9)
    found = conjugate_gradients(
        lambda d: at.apply(d) + nu[:, None, None] * d, right, at.block_solver(nu, mu), steps=200, tolerance=1e-13
    )
    for member in range(MEMBERS):
        J = jacobian(cp, member)
        H = J.mT @ J + nu[member] * torch.eye(J.shape[1], dtype=torch.float64)
        expected = torch.linalg.solve(H, right[member].flatten()).reshape(right[member].shape)
        torch.testing.assert_close(found[member], expected, rtol=1e-8, atol=1e-8)


def test_conjugate_gradients_stop_at_the_tolerance_asked_for() -> None:
    H = torch.diag(torch.logspace(0, 3, 30, dtype=torch.float64))
    right = gaussian(1, 30, 1)
    products = 0

    def apply(x: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return H @ x

    x = conjugate_gradients(apply, right, lambda r: r, steps=500, tolerance=1e-2)
    assert float((right - H @ x).norm()) <= 1e-2 * float(right.norm())
    rough = products
    conjugate_gradients(apply, right, lambda r: r, steps=500, tolerance=1e-8)
    assert products - rough > rough
    assert not conjugate_gradients(apply, torch.zeros_like(right), lambda r: r, steps=5, tolerance=1e-2).any()


def test_moved_splits_a_direction_over_the_factors() -> None:
    _, cp, at = points((2, 3, 4))
    d = gaussian(MEMBERS, 9, R, seed=4)
    moved = at.moved(d)
    torch.testing.assert_close(stacked(moved, 1), stacked(cp, 1) + d[1], **CLOSE)
    assert dot(d, d).tolist() == pytest.approx(d.flatten(1).norm(dim=1).square().tolist())
