"""Products of matrices and tensors, and the determinant."""

from __future__ import annotations

import torch
from torch import Tensor

from polyadic.onnx.operators.table import NodeFacts, Operation, enter_plain, operator

enter_plain({"MatMul": torch.matmul, "Det": torch.linalg.det})


@operator("Gemm")
def gemm(facts: NodeFacts) -> Operation:
    """The sum alpha * A B + beta * C, with A or B transposed where the node says so, and C broadcast."""
    transpose_a, transpose_b = facts.attributes.get("transA", 0), facts.attributes.get("transB", 0)
    alpha, beta = facts.attributes.get("alpha", 1.0), facts.attributes.get("beta", 1.0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.T if transpose_a else a, b.T if transpose_b else b
        scale = float if a.is_floating_point() else int  # torch takes no fractional factors for integers
        if c is None:
            return a @ b if alpha == 1 else scale(alpha) * (a @ b)
        return torch.addmm(c, a, b, beta=scale(beta), alpha=scale(alpha))

    return run


@operator("Einsum")
def einsum(facts: NodeFacts) -> Operation:
    """The sum of products over the indices that the equation repeats or leaves out of its result."""
    equation = facts.attributes["equation"].replace(" ", "")
    return lambda *tensors: torch.einsum(equation, *tensors)


@operator("MatMulInteger")
def matmul_integer(facts: NodeFacts) -> Operation:
    """The product of 8-bit integers less their zero points, one for all or one for each row of A and column of B."""

    def run(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        # In float64, where the sums are as exact, since accelerators have no product of integer matrices.
        left, right = a.to(torch.float64), b.to(torch.float64)
        if a_zero is not None:
            left = left - (a_zero.unsqueeze(-1) if a_zero.ndim == 1 and a_zero.numel() > 1 else a_zero)
        if b_zero is not None:
            right = right - b_zero
        return torch.matmul(left, right).to(torch.int32)

    return run
