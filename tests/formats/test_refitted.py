from __future__ import annotations

import pytest
import torch

from cases import gaussian
from polyadic.algebra import CPTensor
from polyadic.decomposition import Stability
from polyadic.formats import format_named
from polyadic.schema import ConvSpec, Rank

WINDOW = ConvSpec(4, 5, (3, 3), (1, 1), (1, 1), (1, 1))
MATRIX = ConvSpec(4, 5)
CASES: dict[str, tuple[ConvSpec, Rank]] = {
    "cp-epc": (WINDOW, (4,)),
    "cp-als": (WINDOW, (4,)),
    "cp4-epc": (WINDOW, (4,)),
    "spatial-svd": (WINDOW, (3,)),
    "tt": (WINDOW, (2, 4, 3)),
    "tucker2": (WINDOW, (2, 3)),
    "tkd-cpd-epc": (WINDOW, (2, 3, 3)),
    "svd": (MATRIX, (2,)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_new_last_stage_is_taken_and_its_error_measured(name: str) -> None:
    spec, rank = CASES[name]
    kernel, fmt = gaussian(*spec.weight_shape), format_named(name)
    factored = fmt.factorise(kernel, spec, rank)
    last = 0.5 * factored.weights[-1]
    refitted = fmt.refitted(factored, last, kernel)
    assert refitted.stages == factored.stages
    assert [w.shape for w in refitted.weights] == [w.shape for w in factored.weights]
    torch.testing.assert_close(refitted.dense_kernel(), 0.5 * factored.dense_kernel())
    error = float((kernel - refitted.dense_kernel().reshape(kernel.shape)).norm() / kernel.norm())
    assert refitted.relative_error == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("name", ["cp-epc", "cp-als", "cp-als-epc", "cp4-epc"])
def test_the_columns_of_a_refitted_cp_are_balanced_and_its_stability_is_its_own(name: str) -> None:
    kernel, fmt = gaussian(*WINDOW.weight_shape), format_named(name)
    factored = fmt.factorise(kernel, WINDOW, (4,))
    refitted = fmt.refitted(factored, torch.arange(1.0, 5.0).reshape(1, 4, 1, 1) * factored.weights[-1], kernel)
    *inner, C = (weight.flatten(1) for weight in refitted.weights)
    cp = CPTensor((*(weight.mT for weight in inner), C))
    torch.testing.assert_close(CPTensor(cp.rescaled().factors).squared_column_norms(), cp.squared_column_norms())
    assert refitted.sensitivity == pytest.approx(Stability.of(cp, float(kernel.norm())).sensitivity, rel=1e-9)
    assert refitted.sensitivity != pytest.approx(factored.sensitivity, rel=1e-3)
