"""The distillation objective against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from corners import SmallNet

from polyadic.training import Execution
from polyadic.training.objective import soft_divergence, teacher_logits


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_divergence_is_the_definition(temperature: float) -> None:
    """T^2 sum_i p_i ln(p_i / q_i), averaged over images, by loops."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for student, taught in zip(s.tolist(), t.tolist(), strict=True):
        q_sum = sum(math.exp(x / temperature) for x in student)
        p_sum = sum(math.exp(x / temperature) for x in taught)
        for x, y in zip(student, taught, strict=True):
            p, q = math.exp(y / temperature) / p_sum, math.exp(x / temperature) / q_sum
            total += temperature**2 * p * math.log(p / q)
    assert float(soft_divergence(s, t, temperature)) == pytest.approx(total / 5, abs=1e-10)
    assert float(soft_divergence(t, t, temperature)) == pytest.approx(0, abs=1e-12)


def test_teacher_logits_are_a_constant_that_autograd_keeps() -> None:
    """No gradient reaches the teacher, and one reaches the student."""
    teacher, student = SmallNet(seed=1).eval(), SmallNet(seed=2).eval()
    batch = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    soft_divergence(student(batch), teacher_logits(teacher, batch, Execution("cpu")), 2.0).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
