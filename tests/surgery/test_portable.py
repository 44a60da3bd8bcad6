"""A factorised network is one like any other, whatever the format: it is copied, stored, exported and compiled."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from nets import seeded
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cases import gaussian
from polyadic.formats import FORMATS
from polyadic.schema import Choice, Plan
from polyadic.surgery import chain_for, find_layers, layer_at, rebuild, replace_layer


class Small(nn.Module):
    """One layer of each kind, (N, 3, 8, 8) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=2, padding_mode="reflect")
        self.point = nn.Conv2d(6, 4, 1, stride=2)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
        self.head = nn.Linear(3 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point(self.grouped(self.norm(self.window(x)).relu()))
        return self.head(self.up(x).flatten(1))  # type: ignore[no-any-return]


def example(samples: int = 2) -> Tensor:
    return gaussian(samples, 3, 8, 8, seed=3)


def small(seed: int = 0) -> nn.Module:
    return seeded(Small, seed).double().eval()


@pytest.fixture(scope="module", params=FORMATS)
def factorised(request: pytest.FixtureRequest) -> tuple[nn.Module, Plan]:
    """A small network with every layer that a format serves factorised at rank 2."""
    model, name = small(), request.param
    fmt = FORMATS[name]
    choices = []
    for site in find_layers(model, example()):
        layer, kernel, spec = layer_at(model, site.name)
        if fmt.refuses(spec) is None:
            rank = tuple(min(2, most) for most in fmt.largest_rank(spec))
            replace_layer(model, site, chain_for(layer, fmt.factorise(kernel.detach(), spec, rank)))
            choices.append(Choice(site.name, name, rank))
    assert choices
    return model, Plan(tuple(choices))


def never_run(made: tuple[nn.Module, Plan]) -> nn.Module:
    """The same network in modules that have not run yet."""
    model, plan = made
    other = rebuild(small(seed=1), plan)
    other.load_state_dict(model.state_dict())
    return other


def same(a: Tensor, b: Tensor) -> None:
    """Equal up to the order of operations."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_copy_answers_alike_and_shares_nothing(factorised: tuple[nn.Module, Plan]) -> None:
    model, _ = factorised
    expected = model(example()).detach()
    twin = copy.deepcopy(model)
    same(twin(example()).detach(), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    same(model(example()).detach(), expected)


def test_weights_pass_through_a_file_into_the_rebuilt_network(
    factorised: tuple[nn.Module, Plan], tmp_path: Path
) -> None:
    model, plan = factorised
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other = rebuild(small(seed=1), Plan.from_json(json.loads(json.dumps(plan.to_json()))))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    same(other(example()).detach(), model(example()).detach())
    assert [(n, type(m)) for n, m in other.named_modules()] == [(n, type(m)) for n, m in model.named_modules()]


def test_it_is_exported_with_any_number_of_samples(factorised: tuple[nn.Module, Plan]) -> None:
    model, _ = factorised
    samples = torch.export.Dim("samples", min=2, max=64)
    exported = torch.export.export(never_run(factorised), (example(4),), dynamic_shapes=({0: samples},)).module()
    for count in (4, 3):
        same(exported(example(count)).detach(), model(example(count)).detach())


def test_it_is_compiled_as_one_graph(factorised: tuple[nn.Module, Plan]) -> None:
    if not torch._dynamo.is_dynamo_supported():
        pytest.skip("torch.compile does not run on this platform")
    model, _ = factorised
    torch.compiler.reset()
    compiled = torch.compile(never_run(factorised), backend="eager", fullgraph=True)
    same(compiled(example()).detach(), model(example()).detach())


def test_every_weight_of_it_learns(factorised: tuple[nn.Module, Plan]) -> None:
    model, _ = factorised
    model(example()).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
