"""A chain merged into one plain layer gives the same answers."""

from __future__ import annotations

import pytest
import torch
from nets import TwoNames, everything_of, images, net, seeded
from torch import nn

from polyadic.errors import LayerError
from polyadic.formats import format_named
from polyadic.schema import Choice, Plan
from polyadic.surgery import SVD, Tucker2, decompose_, layer_at, merge, rebuild, replace_one_by_one


class Kinds(nn.Module):
    """A grouped, a transposed, a dilated and a circular convolution, and a Linear: (N, 3, 12, 12) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2, padding=1))
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.wide = nn.Conv2d(6, 6, (3, 5), dilation=2, padding="same", padding_mode="circular")
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.wide(self.up(self.grouped(x))).mean((2, 3)))
        return logits


def trained(model: nn.Module) -> nn.Module:
    """With other numbers everywhere, as after a training."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return model


@pytest.mark.parametrize(
    "choices",
    [
        [("grouped.1", "tucker2", (2, 2)), ("up", "tucker2", (3, 4)), ("wide", "cp4-epc", 5), ("head", "svd", 2)],
        [("up", "spatial-svd", 4), ("wide", "spatial-svd", 3)],
        [("wide", "tt", (2, 3, 4)), ("head", "tt-matrix", (2,))],
        [("wide", "cp-epc", 6)],
    ],
    ids=["tucker and cp", "spatial svd", "trains", "cp"],
)
def test_chains_of_every_kind_become_plain_layers_with_the_same_answers(choices: list[tuple[str, str, object]]) -> None:
    dense = seeded(Kinds).double().eval()
    plan = Plan.from_json([{"layer": layer, "format": fmt, "rank": rank} for layer, fmt, rank in choices])
    network = trained(rebuild(seeded(Kinds).double().eval(), plan))
    before = everything_of(network)
    plain = merge(network, dense, plan)
    x = images(4, dtype=torch.float64)
    torch.testing.assert_close(plain(x), network(x), rtol=0, atol=1e-10)
    assert {n: type(m) for n, m in plain.named_modules()} == {n: type(m) for n, m in dense.named_modules()}
    assert everything_of(network) == before


def test_a_network_of_two_rounds_is_merged_from_within_and_names_are_kept() -> None:
    for build, first, second in (
        (net, {"body.1": Tucker2((4, 6)), "head": SVD(5)}, {"body.1.1": Tucker2((3, 4))}),
        (lambda: seeded(TwoNames).eval(), {"first": Tucker2((3, 3))}, {"first.1": Tucker2((2, 2))}),
    ):
        dense, model = build().double(), build().double()
        x = images(dtype=torch.float64)
        plan = Plan((*decompose_(model, first, x).choices, *decompose_(model, second, x).choices))
        trained(model)
        plain = merge(model, dense, plan)
        torch.testing.assert_close(plain(x), model(x), rtol=0, atol=1e-10)
        assert [name for name, _ in plain.named_modules(remove_duplicate=False)] == [
            name for name, _ in dense.named_modules(remove_duplicate=False)
        ]


def test_modes_and_gradient_flags_stay() -> None:
    dense, model = net(), net()
    model.body[1].requires_grad_(False)
    plan = decompose_(model, {"body.1": Tucker2((2, 3)), "head": SVD(2)}, images())
    plain = merge(model, dense, plan)
    assert not any(parameter.requires_grad for parameter in plain.body[1].parameters())
    assert all(parameter.requires_grad for parameter in plain.head.parameters())
    assert not plain.body[1].training
    assert plain.body[1].weight.dtype == torch.float32


def test_a_network_that_the_plan_does_not_describe_is_refused() -> None:
    model = net()
    decompose_(model, {"head": SVD(2)}, images())
    with pytest.raises(LayerError, match="layer 'head' is no svd of rank"):
        merge(model, net(), Plan((Choice("head", "svd", (3,)),)))


def test_a_plan_of_two_rounds_is_carried_out_apart() -> None:
    dense, x = net().double(), images(3, dtype=torch.float64)
    plan = Plan.from_json(
        [
            {"layer": "body.1", "format": "tucker2", "rank": [6, 8]},
            {"layer": "head", "format": "svd", "rank": 5},
            {"layer": "body.1.1", "format": "tucker2", "rank": [6, 8]},
            {"layer": "head.0", "format": "svd", "rank": 5},
        ]
    )
    specs: dict[str, object] = {}

    def factorise(choice: Choice, kernel: torch.Tensor, norm: object) -> object:
        parent, _, number = choice.layer.rpartition(".")
        spec = specs[parent][int(number)] if parent in specs else layer_at(dense, choice.layer)[2]  # type: ignore[index]
        factored = format_named(choice.format).factorise(kernel, spec, choice.rank, 0, None)
        specs[choice.layer] = factored.stages
        return factored

    network, kernels = replace_one_by_one(dense, plan, factorise)
    assert set(kernels) == {"body.1", "head", "body.1.1", "head.0"}
    torch.testing.assert_close(network(x), dense(x), rtol=0, atol=1e-10)
    assert [n for n, _ in network.named_modules()] == [n for n, _ in rebuild(net(), plan).named_modules()]
