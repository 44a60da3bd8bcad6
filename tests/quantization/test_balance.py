from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from polyadic.layers import TTConv2d
from polyadic.quantization import balance_chains

R = 6


def scaled_badly(chain: nn.Sequential, seed: int) -> nn.Sequential:
    """The chain of plain, ungrouped or depthwise layers with scales between its stages spread over four decades."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for first, second in pairwise(chain):
            assert isinstance(first, nn.Conv2d)
            assert isinstance(second, nn.Conv2d)
            d = 10 ** (4 * torch.rand(first.out_channels, generator=generator, dtype=torch.float64) - 2)
            first.weight *= d.view(-1, 1, 1, 1)
            if first.bias is not None:
                first.bias *= d
            second.weight /= d.view(-1, 1, 1, 1) if second.groups > 1 else d.view(1, -1, 1, 1)
    return chain


def cp_chain(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(5, R, 1, bias=False), nn.Conv2d(R, R, 3, padding=1, groups=R, bias=False), nn.Conv2d(R, 7, 1)
    ).double()


def tucker_chain(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(5, 4, 1, bias=False), nn.Conv2d(4, R, 3, stride=2, padding=1, bias=False), nn.Conv2d(R, 7, 1)
    ).double()


def images(seed: int = 1) -> Tensor:
    return torch.randn(8, 5, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


NETWORKS = {
    "cp": lambda: scaled_badly(cp_chain(), 0),
    "tucker": lambda: scaled_badly(tucker_chain(), 0),
    "biases inside": lambda: nn.Sequential(nn.Conv2d(5, 6, 3, padding=1, padding_mode="reflect"), nn.Conv2d(6, 3, 2)),
    "groups": lambda: nn.Sequential(nn.Conv2d(5, 8, 1), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 6, 1, groups=3)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(5, 8, 3), nn.ConvTranspose2d(8, 6, 2, groups=2)),
    "linear": lambda: nn.Sequential(nn.Conv2d(5, 6, 1), nn.Flatten(), nn.Linear(486, 5), nn.Linear(5, 4)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Conv2d(5, 6, 1), nn.Conv2d(6, 6, 3)), nn.Conv2d(6, 4, 1)),
    "in a network": lambda: nn.Sequential(
        scaled_badly(cp_chain(), 2), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("with_images", [False, True])
def test_the_function_is_the_same(name: str, with_images: bool) -> None:
    network = NETWORKS[name]().double().eval()
    before, x = copy.deepcopy(network.state_dict()), images()
    result = balance_chains(network, [images(2)] if with_images else ())
    torch.testing.assert_close(result(x), network(x), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    changed = [not torch.equal(before[key], value) for key, value in result.state_dict().items()]
    assert any(changed)


def test_the_stages_of_a_cp_have_equal_entries_in_each_term() -> None:
    chain = balance_chains(scaled_badly(cp_chain(), 3))
    B, A, C = (layer.weight.detach() for layer in chain)
    rms = torch.stack([B.square().mean((1, 2, 3)), A.square().mean((1, 2, 3)), C.square().mean((0, 2, 3))]).sqrt()
    torch.testing.assert_close(rms, rms[:1].expand(3, R), rtol=1e-3, atol=0)


def sensitivity(chain: nn.Sequential) -> float:
    """The mean square by which the tensor moves when all entries of all factors get noise of variance 1, by terms."""
    B, A, C = (layer.weight.detach().squeeze() for layer in chain)
    total = 0.0
    for r in range(R):
        a, b, c = float(A[r].square().sum()), float(B[r].square().sum()), float(C[:, r].square().sum())
        total += A[r].numel() * b * c + B[r].numel() * a * c + C[:, r].numel() * a * b
    return total


@pytest.mark.parametrize("seed", range(5))
def test_no_other_scales_of_a_cp_are_less_sensitive(seed: int) -> None:
    least = sensitivity(balance_chains(cp_chain()))
    other = cp_chain()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for first, second, axis in ((other[0], other[1], (-1, 1, 1, 1)), (other[1], other[2], (1, -1, 1, 1))):
            d = torch.exp(0.5 * torch.randn(R, generator=generator, dtype=torch.float64))
            first.weight *= d.view(-1, 1, 1, 1)
            second.weight /= d.view(axis)
    assert least <= sensitivity(other) * (1 + 1e-6)
    assert least < sensitivity(cp_chain())


def in_eight_bits(x: Tensor, over: tuple[int, ...] | None = None) -> Tensor:
    """Rounded to 255 symmetric steps of the largest absolute value over some axes."""
    step = (x.abs().amax() if over is None else x.abs().amax(over, keepdim=True)) / 127
    return (x / step).round().clamp(-127, 127) * step


def error_of_eight_bits(chain: nn.Sequential, x: Tensor) -> float:
    """Relative error of the outputs: a step for each row of a weight, one for all channels of an activation."""
    y = in_eight_bits(x)
    for number, layer in enumerate(chain):
        assert isinstance(layer, nn.Conv2d)
        y = layer._conv_forward(y, in_eight_bits(layer.weight, (1, 2, 3)), layer.bias)
        y = y if number == len(chain) - 1 else in_eight_bits(y)
    return float((y - chain(x)).norm() / chain(x).norm())


@pytest.mark.parametrize("build", [cp_chain, tucker_chain])
@pytest.mark.parametrize("seed", range(3))
def test_eight_bits_do_less_harm(build: object, seed: int) -> None:
    assert callable(build)
    chain, x = scaled_badly(build(seed), seed), images()
    with torch.no_grad():
        before = error_of_eight_bits(chain, x)
        blind = error_of_eight_bits(balance_chains(chain), x)
        seeing = error_of_eight_bits(balance_chains(chain, [images(2)]), x)
    assert blind < 0.2 * before
    assert seeing < 0.2 * before
    assert seeing < 0.03


def test_dead_channels_stay_dead_and_finite() -> None:
    chain = cp_chain()
    with torch.no_grad():
        chain[0].weight[2] = 0
        chain[2].weight[:, 4] = 0
    result = balance_chains(chain, [images()])
    torch.testing.assert_close(result(images()), chain(images()), rtol=1e-10, atol=1e-10)
    assert all(value.isfinite().all() for value in result.state_dict().values())


class Twice(nn.Module):
    """A chain whose first layer is read by others, too."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = nn.Sequential(nn.Conv2d(5, 5, 1), nn.Conv2d(5, 5, 1))
        self.again = self.chain[0]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.chain(self.again(x))
        return y


def test_layers_that_others_use_are_left_alone() -> None:
    tied = nn.Sequential(nn.Conv2d(5, 5, 1), nn.Conv2d(5, 5, 1))
    tied[1].weight = tied[0].weight
    for network in (Twice().double().eval(), tied.double(), nn.Sequential(nn.Conv2d(5, 6, 1), nn.ReLU()).double()):
        result = balance_chains(network, [images()])
        assert all(torch.equal(value, network.state_dict()[key]) for key, value in result.state_dict().items())


def test_tensor_train_layers_are_left_alone() -> None:
    network = nn.Sequential(TTConv2d(4, 4, 3, ranks=2), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1))
    x = torch.randn(2, 4, 6, 6)
    result = balance_chains(network)
    torch.testing.assert_close(result(x), network(x), rtol=1e-4, atol=1e-5)


def bent_forward(network: nn.Sequential) -> None:
    """Give the first layer another forward pass."""
    network[0].forward = lambda x: torch.tanh(nn.functional.conv2d(x, network[0].weight, network[0].bias))


def bent_convolution(network: nn.Sequential) -> None:
    """Give the first layer another way to convolve."""
    conv = network[0]
    assert isinstance(conv, nn.Conv2d)
    conv._conv_forward = lambda x, weight, bias: torch.tanh(nn.functional.conv2d(x, weight, bias))


def hooked_sequence(network: nn.Sequential) -> None:
    """Put the first layer into a sequence that a hook changes the output of."""
    network[0] = nn.Sequential(network[0])
    network[0].register_forward_hook(lambda layer, inputs, output: torch.tanh(output))


def replaced_sequence(network: nn.Sequential) -> None:
    """The same by a method of that sequence."""
    network[0] = nn.Sequential(network[0])
    network[0].forward = torch.nn.functional.softplus


@pytest.mark.parametrize("change", [bent_forward, bent_convolution, hooked_sequence, replaced_sequence])
def test_layers_and_sequences_that_do_something_else_are_left_alone(change: Callable[[nn.Sequential], None]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(5, 5, 1), nn.Conv2d(5, 4, 1)).double().eval()
    change(network)
    result = balance_chains(network, [images()])
    assert torch.equal(result(images()), network(images()))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in result.state_dict().items())
