"""Networks from ONNX files are trained: their operators have the gradients that differences of their values give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polyadic.onnx.operators import NodeFacts, operation_of


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X = numbers(2, 4, 6)
INDEX = torch.tensor
LEARNT: list[tuple[str, int, dict[str, Any], list[Tensor | None]]] = [
    ("Gemm", 13, {"transB": 1, "alpha": 0.5, "beta": 2.0}, [numbers(3, 4), numbers(5, 4, seed=1), numbers(5, seed=2)]),
    ("ReduceMean", 18, {"keepdims": 0}, [X, INDEX([0, 2])]),
    ("ReduceL2", 18, {}, [X, INDEX([1])]),
    ("ReduceProd", 18, {}, [X[:1], INDEX([1, 2])]),
    ("ReduceLogSumExp", 18, {}, [X]),
    ("ReduceMax", 18, {}, [X, INDEX([1])]),
    ("Slice", 13, {}, [X, INDEX([-1]), INDEX([0]), INDEX([2]), INDEX([-2])]),
    ("Gather", 13, {"axis": 1}, [X, INDEX([[0, -1], [0, 2]])]),
    ("GatherND", 13, {}, [X, INDEX([[0, -1], [1, 2]])]),
    ("ScatterND", 18, {"reduction": "add"}, [X, INDEX([[0], [0]]), numbers(2, 4, 6, seed=1)]),
    ("ScatterElements", 18, {"axis": 2}, [X, INDEX([[[0, 5]]]), numbers(1, 1, 2)]),
    ("DepthToSpace", 13, {"blocksize": 2, "mode": "CRD"}, [numbers(1, 8, 2, 3)]),
    ("Clip", 13, {}, [X, torch.tensor(-0.5, dtype=torch.float64), None]),
    ("Split", 18, {"axis": 1, "num_outputs": 3}, [X]),
    ("TopK", 11, {}, [X, INDEX([2])]),
    ("CumSum", 14, {"exclusive": 1}, [X, INDEX(1)]),
    ("Col2Im", 18, {"pads": [0, 1, 1, 0]}, [numbers(1, 4, 16), INDEX([4, 4]), INDEX([2, 2])]),
    ("Unique", 11, {}, [X]),
    ("DequantizeLinear", 13, {}, [torch.arange(6, dtype=torch.int8).reshape(2, 3), numbers(3)]),
]


@pytest.mark.parametrize("form", LEARNT, ids=lambda form: form[0])
def test_gradients_are_those_of_differences(form: tuple[str, int, dict[str, Any], list[Tensor | None]]) -> None:
    operator, opset, attributes, values = form
    facts = NodeFacts(operator, opset, attributes, tuple(value is not None for value in values), 3)
    operation = operation_of(facts)
    learnt = [value for value in values if value is not None and value.is_floating_point()]

    def floating(*inputs: Tensor) -> tuple[Tensor, ...]:
        rest = iter(inputs)
        outputs = operation(*[next(rest) if v is not None and v.is_floating_point() else v for v in values])
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        return tuple(output for output in outputs if output.is_floating_point())

    assert torch.autograd.gradcheck(floating, [value.clone().requires_grad_() for value in learnt])


def test_the_norm_of_zeros_has_a_gradient() -> None:
    x = torch.zeros(3, requires_grad=True)
    norm = operation_of(NodeFacts("ReduceL2", 18, {}, (True,), 1))(x)
    assert isinstance(norm, Tensor)
    norm.sum().backward()
    assert torch.equal(x.grad, torch.zeros(3))
