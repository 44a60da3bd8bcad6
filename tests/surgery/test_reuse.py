"""One module at several paths, or called several times, is one layer; a replacement serves all its calls."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from nets import Tied, images, seeded
from torch import Tensor, nn

from polyadic.errors import LayerError
from polyadic.schema import LayerSite
from polyadic.surgery import SVD, Tucker2, decompose_, find_layers, network_cost, rebuild


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, padding=1)


class Listed(nn.Module):
    """A layer twice in a list, and a list that holds it again."""

    def __init__(self) -> None:
        super().__init__()
        shared = conv()
        self.layers = nn.ModuleList([shared, conv(), shared])
        self.again = nn.ModuleList([nn.ModuleList([shared])])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return self.again[0][0](x)  # type: ignore[index,no-any-return]


class Keyed(nn.Module):
    """A layer under two keys, one of them in a nested block."""

    def __init__(self) -> None:
        super().__init__()
        shared = conv()
        self.parts = nn.ModuleDict({"a": shared, "b": nn.Sequential(conv(), nn.ModuleDict({"c": shared})["c"])})

    def forward(self, x: Tensor) -> Tensor:
        return self.parts["b"](self.parts["a"](x))  # type: ignore[no-any-return]


class Looped(nn.Module):
    """A layer under one name, called three times, once by keyword, on maps of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = conv()
        self.other = conv()

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(input=self.shared(x).tanh())
        return self.other(self.shared(F.avg_pool2d(x, 2)))  # type: ignore[no-any-return]


class SharedBlock(nn.Module):
    """A block of two layers at two paths."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(), nn.Tanh(), conv())
        self.second = nn.Sequential(self.first, conv())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))  # type: ignore[no-any-return]


def in_sequence() -> nn.Module:
    shared = conv()
    return nn.Sequential(shared, nn.Tanh(), shared, conv())


SHARED: dict[str, tuple[Callable[[], nn.Module], str, tuple[str, ...], int]] = {
    "nn.Sequential": (in_sequence, "0", ("2",), 2),
    "nn.ModuleList": (Listed, "layers.0", ("layers.2", "again.0.0"), 3),
    "nn.ModuleDict": (Keyed, "parts.a", ("parts.b.1",), 2),
    "several calls": (Looped, "shared", (), 3),
    "a block": (SharedBlock, "first.0", ("second.0.0",), 2),
}


def doubles(count: int = 2) -> Tensor:
    return images(count, dtype=torch.float64)


def sites_of(model: nn.Module) -> dict[str, LayerSite]:
    return {site.name: site for site in find_layers(model, doubles())}


@pytest.mark.parametrize("way", SHARED)
def test_a_shared_layer_is_one_site_with_all_its_names_and_calls(way: str) -> None:
    build, name, aliases, calls = SHARED[way]
    model = seeded(build).double()
    sites = sites_of(model)
    assert (sites[name].aliases, len(sites[name].input_sizes)) == (aliases, calls)
    assert [site.reason for site in sites.values()] == [None] * len(sites)
    assert sum(site.macs for site in sites.values()) == network_cost(model, doubles()).macs
    assert sum(site.params for site in sites.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("way", SHARED)
@pytest.mark.parametrize("pattern", [True, False])
def test_all_calls_are_replaced_and_the_plan_rebuilds_them(way: str, pattern: bool) -> None:
    build, name, aliases, _ = SHARED[way]
    model = seeded(build).double().eval()
    other, dense = copy.deepcopy(model), model(doubles())
    plan = decompose_(model, {"*" if pattern else name: Tucker2((3, 3))}, doubles())
    chain = model.get_submodule(name)
    assert isinstance(chain, nn.Sequential)
    assert all(model.get_submodule(alias) is chain for alias in aliases)
    torch.testing.assert_close(model(doubles()), dense, rtol=0, atol=1e-10)
    rebuild(other, plan).load_state_dict(model.state_dict())
    assert torch.equal(other(doubles()), model(doubles()))
    assert sum(p.numel() for p in other.parameters()) == sum(p.numel() for p in model.parameters())


def test_two_layers_with_one_parameter_stay_whatever_the_pattern_says() -> None:
    model = seeded(Tied).eval()
    plan = decompose_(model, {"*": SVD(2)}, images())
    assert [choice.layer for choice in plan.choices] == ["c"]
    assert model.a.weight is model.b.weight
    with pytest.raises(LayerError, match="layer 'a' cannot be factorised as svd: it shares its weight with b"):
        decompose_(model, {"a": SVD(2)}, images())


def test_a_classifier_that_is_tied_to_an_embedding_stays() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(7, 4)
            self.inner = nn.Linear(4, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.inner(self.words(x)))  # type: ignore[no-any-return]

    sites = find_layers(Words(), torch.zeros(2, 5, dtype=torch.int64))
    assert {site.name: site.reason for site in sites} == {
        "words": "Embedding is neither a convolution nor a fully connected layer",
        "inner": None,
        "head": "it shares its weight with words",
    }


class HalfHidden(nn.Module):
    """A layer that is called by its name and through a plain list too."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = conv()
        self.other = conv()
        self.order = [self.shared]

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.order[0](self.shared(x)))  # type: ignore[no-any-return]


def test_a_layer_of_which_some_calls_would_keep_the_old_weight_stays() -> None:
    sites = sites_of(seeded(HalfHidden).double())
    assert "another reference" in str(sites["shared"].reason)
    assert sites["other"].reason is None
