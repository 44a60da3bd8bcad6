"""A factorised layer is a sequence of plain layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cases import gaussian
from polyadic.errors import LayerError
from polyadic.formats import FORMATS, FactoredKernel
from polyadic.layers import TTLayer, empty_chain, filled_chain
from polyadic.schema import ConvSpec


def factored(bias: bool) -> FactoredKernel:
    spec = ConvSpec(4, 5, (3, 3), (2, 2), (1, 1), (1, 1), bias=bias)
    return FORMATS["tucker2"].factorise(gaussian(5, 4, 3, 3), spec, (2, 3))


def test_a_chain_holds_plain_torch_layers_and_nothing_else() -> None:
    chain = filled_chain(factored(bias=True), gaussian(5), gaussian(1))
    assert type(chain) is nn.Sequential
    assert {type(module) for module in chain} == {nn.Conv2d}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in chain.parameters())


def test_a_train_over_the_channels_is_one_layer_with_its_cores_and_the_bias() -> None:
    spec = ConvSpec(8, 6, (3, 3), (1, 1), (1, 1), (1, 1), bias=True)
    kernel, bias = FORMATS["tt-matrix"].factorise(gaussian(6, 8, 3, 3), spec, (3, 4)), gaussian(6)
    chain = filled_chain(kernel, bias, gaussian(1))
    assert type(chain) is nn.Sequential
    (layer,) = chain
    assert type(layer) is TTLayer
    assert torch.equal(torch.cat([G.flatten() for G in layer.cores]), kernel.weights[0])
    assert torch.equal(layer.bias, bias)
    torch.testing.assert_close(layer.kernel(), kernel.dense_kernel(), rtol=1e-10, atol=1e-10)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in chain.parameters())


def test_the_weights_of_a_transposed_chain_are_stored_as_torch_stores_them() -> None:
    spec = ConvSpec(4, 5, (3, 3), (2, 2), (1, 1), (1, 1), transposed=True, output_padding=(1, 1))
    kernel = FORMATS["tucker2"].factorise(gaussian(5, 4, 3, 3), spec, (2, 3))
    first, core, last = filled_chain(kernel, None, gaussian(1))
    assert [type(layer) for layer in (first, core, last)] == [nn.Conv2d, nn.ConvTranspose2d, nn.Conv2d]
    assert torch.equal(core.weight, kernel.weights[1].transpose(0, 1))


def test_weights_and_bias_are_copies_and_the_bias_goes_last() -> None:
    kernel, bias = factored(bias=True), gaussian(5)
    chain = filled_chain(kernel, bias, gaussian(1))
    for layer, weight in zip(chain, kernel.weights, strict=True):
        assert torch.equal(layer.weight, weight)
        assert layer.weight.data_ptr() != weight.data_ptr()
    assert [layer.bias is not None for layer in chain] == [False, False, True]
    assert torch.equal(chain[-1].bias, bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_chain_takes_the_type_of_the_layer_it_replaces(dtype: torch.dtype) -> None:
    chain = filled_chain(factored(bias=False), None, torch.empty(0, dtype=dtype))
    assert {parameter.dtype for parameter in chain.parameters()} == {dtype}
    assert chain(torch.ones(1, 4, 5, 5, dtype=dtype)).shape == (1, 5, 3, 3)


@pytest.mark.parametrize("bias", [None, gaussian(5)], ids=["missing", "too many"])
def test_a_missing_or_superfluous_bias_is_refused(bias: torch.Tensor | None) -> None:
    """A missing one would leave uninitialised memory in the network."""
    with pytest.raises(LayerError, match="takes a bias exactly where its last stage has one"):
        filled_chain(factored(bias=bias is None), bias, gaussian(1))


def test_an_empty_chain_has_the_shapes_of_the_filled_one() -> None:
    kernel = factored(bias=True)
    empty, filled = empty_chain(kernel.stages, gaussian(1)), filled_chain(kernel, gaussian(5), gaussian(1))
    empty.load_state_dict(filled.state_dict())
    x = gaussian(1, 4, 6, 6)
    assert torch.equal(empty(x), filled(x))
