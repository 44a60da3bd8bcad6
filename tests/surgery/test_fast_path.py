from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polyadic.schema import Plan
from polyadic.surgery import decompose_, find_layers, rebuild
from polyadic.surgery.layer_map import SVD

EXAMPLE = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


def encoder() -> nn.TransformerEncoder:
    torch.manual_seed(0)
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval()


def factorised(layer: str) -> tuple[nn.TransformerEncoder, Plan]:
    network = encoder()
    return network, decompose_(network, {layer: SVD(16)}, EXAMPLE)


def answer(network: nn.TransformerEncoder, padding: Tensor | None) -> Tensor:
    """What it puts out where nothing is padded."""
    with torch.no_grad():
        return network(EXAMPLE, src_key_padding_mask=padding)[slice(None) if padding is None else ~padding]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padding", [None, PADDING])
@pytest.mark.parametrize("layer", ["layers.0.linear1", "layers.1.linear2"])
def test_a_replaced_part_of_a_transformer_is_called_in_evaluation_mode(layer: str, padding: Tensor | None) -> None:
    network, plan = factorised(layer)
    rebuilt = rebuild(encoder(), plan)
    rebuilt.load_state_dict(network.state_dict())
    for each in (network, rebuilt):
        assert torch.allclose(answer(each, padding), answer(encoder(), padding), atol=1e-5)
        each.get_submodule(layer)[0].weight.data.zero_()
        assert not torch.allclose(answer(each, padding), answer(encoder(), padding), atol=1e-2)


def test_a_network_that_was_only_looked_at_takes_the_fused_kernels_as_before() -> None:
    network = encoder()
    find_layers(network, EXAMPLE)
    assert network.use_nested_tensor
    assert [layer.activation_relu_or_gelu for layer in network.layers] == [1, 1]
