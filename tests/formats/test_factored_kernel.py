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
    """Entry ``K[t, s, tap]`` is output t at the origin for an input that is 1 at one tap of channel s, else 0.

    Transposed, it is output t at that tap for an input that is 1 at the origin.
    """
    chain = filled_chain(factored, None, torch.empty(0, dtype=torch.float64))
    K = torch.zeros(spec.out_channels, spec.in_channels, *spec.kernel, dtype=torch.float64)
    for s, *tap in itertools.product(range(spec.in_channels), *(range(size) for size in spec.kernel)):
        x = torch.zeros(1, spec.in_channels, *(spec.kernel if not spec.transposed else (1,) * spec.axes))
        x[(0, s, *(tap if not spec.transposed else (0,) * spec.axes))] = 1.0
        y = chain(x.double()).detach()[0]
        K[(slice(None), s, *tap)] = y[(slice(None), *tap)] if spec.transposed else y.reshape(spec.out_channels)
    return K


def in_groups(K: torch.Tensor, groups: int) -> torch.Tensor:
    """T x S/groups from T x S, after a look that no group answers to another."""
    blocks = K.reshape(groups, K.shape[0] // groups, groups, -1, *K.shape[2:])
    for t, s in itertools.permutations(range(groups), 2):
        assert not blocks[t, :, s].any()
    return torch.cat([blocks[group, :, group] for group in range(groups)])


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if not name.startswith("cp-als")]
)  # theirs is that of cp-epc
@pytest.mark.parametrize("kernel", [(), (1,), (1, 1), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (1, True), (2, False), (3, True)])
def test_the_dense_kernel_is_the_impulse_response_of_the_chain(
    name: str, kernel: tuple[int, ...], groups: int, transposed: bool
) -> None:
    axes = len(kernel)
    if not axes and (groups > 1 or transposed):
        return  # a Linear has neither
    spec = ConvSpec(
        4 * groups, 5 * groups, kernel, (1,) * axes, (0,) * axes, (1,) * axes, groups,
        transposed=transposed, output_padding=(0,) * axes if transposed else (),
    )  # fmt: skip
    fmt = FORMATS[name]
    if fmt.refuses(spec) is None:  # each reason has a test of its own
        rank = tuple(min(2, most) for most in fmt.largest_rank(spec))
        factored = fmt.factorise(gaussian(*spec.weight_shape), spec, rank)
        found = in_groups(impulse_response(factored, spec), groups)
        torch.testing.assert_close(factored.dense_kernel(), found, rtol=1e-10, atol=1e-10)


def test_groups_that_meet_later_in_the_chain_are_refused() -> None:
    apart = ConvSpec(4, 4, (3,), (1,), (0,), (1,), groups=4)
    together = ConvSpec.pointwise(4, 4, 1)
    with pytest.raises(ValueError, match="groups of a chain's first stage stay apart in all"):
        FactoredKernel("none", (1,), (apart, together), (gaussian(4, 1, 3), gaussian(4, 4, 1)), 0.0, "").dense_kernel()
