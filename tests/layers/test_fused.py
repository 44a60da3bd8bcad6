"""Chains in one call: the same numbers by a shorter way."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from polyadic import fused
from polyadic.formats import format_named
from polyadic.layers import FusedChain, empty_chain
from polyadic.schema import ConvSpec


def network(fmt: str = "cp-epc", rank: tuple[int, ...] = (5,), axes: int = 2) -> nn.Module:
    """A chain between two other layers, with random weights."""
    spec = ConvSpec(6, 8, (3,) * axes, (2,) * axes, (1,) * axes, (1,) * axes)
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chain = empty_chain(format_named(fmt).stages(spec, rank), torch.empty(0))
        model = nn.Sequential(kinds[axes](6, 6, 1), nn.ReLU(), chain, nn.ReLU())
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    return model.eval()


def images(axes: int = 2) -> Tensor:
    return torch.randn(2, 6, *(7,) * axes, generator=torch.Generator().manual_seed(1))


class OnWays(nn.Module):
    """Goes another way for images that are dark, so no symbolic trace follows it."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x) if x.sum() > -1e9 else x


def chains(model: nn.Module) -> int:
    return sum(isinstance(module, FusedChain) for module in model.modules())


@pytest.mark.parametrize(
    ("fmt", "rank", "axes"),
    [
        ("cp-epc", (5,), 1),
        ("cp-epc", (5,), 2),
        ("cp-epc", (5,), 3),
        ("cp4-epc", (5,), 2),
        ("tucker2", (4, 3), 2),
        ("spatial-svd", (4,), 2),
        ("tt", (3, 4, 3), 2),
    ],
)
def test_answers_and_gradients_are_those_of_the_plain_layers_to_the_bit(
    fmt: str, rank: tuple[int, ...], axes: int
) -> None:
    plain = OnWays(network(fmt, rank, axes))
    fast = fused(plain)
    assert chains(fast) == 1
    assert chains(plain) == 0
    answers = [model(images(axes)) for model in (plain, fast)]
    assert torch.equal(*answers)
    for answer in answers:
        answer.square().sum().backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(fast.get_parameter(name).grad, parameter.grad)  # type: ignore[arg-type]


def test_stages_are_not_called_as_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[nn.Module] = []
    forward = nn.Conv2d.forward

    def seen(self: nn.Conv2d, x: Tensor) -> Tensor:
        called.append(self)
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", seen)
    fast = fused(OnWays(network()))
    fast(images())
    assert called == [fast.get_submodule("inside.0")]


def test_the_state_is_that_of_the_plain_layers_and_goes_either_way() -> None:
    plain = OnWays(network())
    fast = fused(plain)
    assert list(fast.state_dict()) == list(plain.state_dict())
    fast.get_parameter("inside.2.0.weight").data.add_(1.0)
    assert not torch.equal(fast.get_parameter("inside.2.0.weight"), plain.get_parameter("inside.2.0.weight"))
    plain.load_state_dict(fast.state_dict())
    assert torch.equal(plain(images()), fast(images()))
    moved = fast.double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last = images().double().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(moved(last), plain.double()(images().double()))


def test_what_somebody_watches_or_changes_stays_as_it_is() -> None:
    def layers() -> list[nn.Module]:
        return [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)]

    one = nn.Sequential(nn.Conv2d(4, 4, 1))
    mixed = nn.Sequential(*layers(), nn.ReLU())
    reflected = nn.Sequential(layers()[0], nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    normed = nn.Sequential(layers()[0], parametrizations.weight_norm(nn.Conv2d(4, 4, 1)))
    watched = nn.Sequential(*layers())
    watched[1].register_forward_hook(lambda *_: None)
    twice = nn.Sequential(shared := nn.Conv2d(4, 4, 1), shared)
    for model in (one, mixed, reflected, normed, watched, twice):
        assert chains(fused(OnWays(model))) == 0
    assert chains(fused(OnWays(nn.Sequential(*layers())))) == 1


def test_hooks_on_the_chain_itself_are_heard() -> None:
    plain, heard = network(), []
    plain.get_submodule("2").register_forward_hook(lambda module, inputs, output: heard.append(output.shape))
    fused(plain)(images())
    assert heard == [(2, 8, 4, 4)]


def test_it_can_be_sent_to_another_process_and_traced() -> None:
    fast, held = fused(OnWays(network())), io.BytesIO()
    torch.save(fast, held)
    held.seek(0)
    again = torch.load(held, weights_only=False)
    assert torch.equal(again(images()), fast(images()))
    program = torch.export.export(fast.inside, (images(),))
    assert torch.allclose(program.module()(images()), fast(images()), atol=1e-6)
