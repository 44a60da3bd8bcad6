"""The kernel of a chain against its impulse response."""

from __future__ import annotations

import itertools

import pytest
import torch

from cases import gaussian
from polyadic.formats import FORMATS, FactoredKernel
from polyadic.layers import filled_chain
from polyadic.schema import ConvSpec


def impulse_response(factored: FactoredKernel, spec: ConvSpec) -> torch.Tensor:
    """Entry ``K[t, s, tap]`` is output t at the origin for an input that is 1 at one tap of channel s, else 0."""
    chain = filled_chain(factored, None, torch.empty(0, dtype=torch.float64))
    K = torch.zeros(spec.weight_shape, dtype=torch.float64)
    for s, *tap in itertools.product(range(spec.in_channels), *(range(size) for size in spec.kernel)):
        x = torch.zeros(1, spec.in_channels, *spec.kernel, dtype=torch.float64)
        x[(0, s, *tap)] = 1.0
        K[(slice(None), s, *tap)] = chain(x).reshape(spec.out_channels).detach()
    return K


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kernel", [(), (1,), (1, 1), (3,), (2, 3), (2, 1, 3)])
def test_the_dense_kernel_is_the_impulse_response_of_the_chain(name: str, kernel: tuple[int, ...]) -> None:
    axes = len(kernel)
    spec = ConvSpec(3, 4, kernel, (1,) * axes, (0,) * axes, (1,) * axes)
    fmt = FORMATS[name]
    served = fmt.refuses(spec) is None
    assert served == ((spec.taps == 1) == (name == "svd"))
    if served:
        factored = fmt.factorise(gaussian(*spec.weight_shape), spec, tuple(2 for _ in fmt.largest_rank(spec)))
        torch.testing.assert_close(factored.dense_kernel(), impulse_response(factored, spec), rtol=1e-10, atol=1e-10)


def test_a_chain_that_starts_in_groups_is_refused() -> None:
    stage = ConvSpec(4, 4, (3,), (1,), (0,), (1,), groups=4)
    with pytest.raises(ValueError, match="one group"):
        FactoredKernel("none", (1,), (stage,), (gaussian(4, 1, 3),), 0.0, "").dense_kernel()
