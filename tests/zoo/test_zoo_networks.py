"""Small members of the zoo, taken apart; the whole zoo is run by ``make zoo``."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from zoo.measure import answer, at_full_rank, difference, example_of, plan_exact, reduced, unheard
from zoo.networks import NETWORKS
from zoo.page import short

from polyadic.decomposition import InputNorm
from polyadic.formats import FactoredKernel, format_named
from polyadic.schema import Choice, LayerSite, Plan
from polyadic.surgery import find_layers, layer_at, replace_one_by_one


@dataclass(frozen=True)
class Member:
    """What is known of a network by its construction.

    Attributes:
        layers: how many layers it has.
        left: how many of them no format takes, by reason in short.
        shape: of an input that is quick, if not the one of the table.
    """

    layers: int
    left: dict[str, int] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None


SMALL = (1, 3, 64, 64)

MEMBERS = {
    "own:oddities": Member(
        1 + 23 + 3 + 2 + 5,  # stem, geometry, computed, tied, and those with a name of their own
        {"shared weight": 2, "weight read from outside": 1, "does not run in evaluation": 1, "depthwise": 1},
    ),
    "own:m5": Member(4 + 1),
    "own:dilated-stack": Member(1 + 6 + 6 + 1),
    "own:dcgan": Member(5),
    "own:unet": Member(4 * 2 + 3 + 3 * 2 + 1),
    "torchvision:squeezenet1_1": Member(1 + 8 * 3 + 1, {}, SMALL),
    # 16 units of one depthwise and two pointwise convolutions, three of which have two more on the shortcut
    "torchvision:shufflenet_v2_x1_0": Member(1 + 16 * 3 + 3 * 2 + 1 + 1, {"depthwise": 16 + 3}, SMALL),
    # 13 blocks of three convolutions, each with a shortcut where channels or stride change, in four stages
    "timm:regnetx_002": Member(1 + 13 * 3 + 4 + 1, {}, SMALL),
}


@dataclass(frozen=True)
class Exhibit:
    """A member that is built, its layers and an input."""

    member: Member
    network: nn.Module
    sites: tuple[LayerSite, ...]
    example: Tensor


@pytest.fixture(scope="module")
def exhibit() -> Callable[[str], Exhibit]:
    """Build a member once, or skip the test where its library is not installed."""
    built: dict[str, Exhibit] = {}

    def show(name: str) -> Exhibit:
        network = NETWORKS[name]
        if network.absent is not None:
            pytest.skip(network.absent)
        if name not in built:
            model, example = network.build(), example_of(MEMBERS[name].shape or network.shape)
            built[name] = Exhibit(MEMBERS[name], model, find_layers(model, example), example)
        return built[name]

    return show


@pytest.mark.parametrize("name", MEMBERS)
def test_every_layer_is_found_and_served_or_left_with_its_reason(name: str, exhibit: Callable[[str], Exhibit]) -> None:
    shown = exhibit(name)
    assert len(shown.sites) == shown.member.layers
    chosen = plan_exact(shown.sites, largest=math.inf)
    assert Counter(short(reason) for reason in chosen.left.values()) == shown.member.left
    assert len(chosen.plan.choices) == shown.member.layers - sum(shown.member.left.values())


@pytest.mark.parametrize("name", MEMBERS)
def test_at_full_rank_the_network_is_the_dense_one(name: str, exhibit: Callable[[str], Exhibit]) -> None:
    shown = exhibit(name)
    exact = at_full_rank(shown.network, shown.sites, shown.example)
    assert exact["layers"] == shown.member.layers - sum(shown.member.left.values())
    assert exact["difference"] <= 1e-9


@pytest.mark.parametrize("name", MEMBERS)
def test_the_output_depends_on_every_layer_that_is_compared(name: str, exhibit: Callable[[str], Exhibit]) -> None:
    shown = exhibit(name)
    assert unheard(shown.network, shown.sites, shown.example) == []


@pytest.mark.parametrize("name", MEMBERS)
def test_with_half_the_parameters_per_layer_the_network_is_cheaper_and_runs(
    name: str, exhibit: Callable[[str], Exhibit]
) -> None:
    shown = exhibit(name)
    half = reduced(shown.network, shown.sites, shown.example, ratio=2.0)
    served = {site.name: site.params for site in shown.sites}
    assert half["layers"] > 0.6 * (shown.member.layers - sum(shown.member.left.values()))
    assert half["params"][0] == sum(parameter.numel() for parameter in shown.network.parameters())
    assert half["params"][0] - sum(served.values()) < half["params"][1] < half["params"][0]
    assert half["macs"][1] == half["macs_foreseen"] < half["macs"][0]
    assert half["same_shape"]
    assert half["finite"]
    assert half["difference"] > 1e-3  # the layers that were put in do run


def test_odd_layers_are_left_dense_for_the_reason_that_is_theirs(exhibit: Callable[[str], Exhibit]) -> None:
    chosen = plan_exact(exhibit("own:oddities").sites, largest=math.inf)
    assert {name: short(reason) for name, reason in chosen.left.items()} == {
        "geometry.depthwise": "depthwise",
        "tied.0": "shared weight",
        "tied.1": "shared weight",
        "borrowed": "weight read from outside",
        "idle": "does not run in evaluation",
    }


# Of the 29 layers of oddities that can be factorised 6 are matrices, and 2 of the windows extend along one axis alone.
@pytest.mark.parametrize(("name", "served"), {"tucker2": 23, "svd": 6, "spatial-svd": 21, "tt": 21}.items())
def test_formats_that_are_exact_at_full_rank_are_so_on_odd_layers(
    name: str, served: int, exhibit: Callable[[str], Exhibit]
) -> None:
    shown, fmt = exhibit("own:oddities"), format_named(name)
    candidates = [site for site in shown.sites if site.reason is None and site.spec is not None]
    plan = Plan(
        tuple(
            Choice(site.name, name, fmt.largest_rank(site.spec))
            for site in candidates
            if site.spec is not None and fmt.refuses(site.spec) is None
        )
    )
    assert len(plan.choices) == served
    dense, example = copy.deepcopy(shown.network).double(), shown.example.double()

    def factorise(choice: Choice, kernel: Tensor, norm: InputNorm | None) -> FactoredKernel:
        return fmt.factorise(kernel, layer_at(dense, choice.layer)[2], choice.rank, 0, norm)

    network, _ = replace_one_by_one(dense, plan, factorise)
    assert difference(answer(dense, example), answer(network, example)) <= 1e-9


def test_a_layer_behind_a_scale_of_zero_is_unheard() -> None:
    class Muted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heard, self.muted = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.heard(x) + 0.0 * self.muted(x)
            return y

    network, example = Muted(), torch.ones(1, 3, 6, 6)
    assert unheard(network, find_layers(network, example), example) == ["muted"]
