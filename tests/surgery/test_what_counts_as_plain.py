"""Layers that look like plain ones, or are hidden: which of them count, and why the others stay dense."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import Own, images, weight_normed
from parametrisations import WAYS, Failing, FirstHalf, Squashed, doubles, plain, sites_of
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from polyadic.errors import LayerError
from polyadic.surgery import (
    SVD,
    Tucker2,
    decompose_,
    find_layers,
    layer_at,
    rebuild,
)


def test_another_shape_than_the_geometry_is_refused() -> None:
    model = plain()
    parametrize.register_parametrization(model[5], "weight", FirstHalf(), unsafe=True)
    parametrize.register_parametrization(model[5], "bias", FirstHalf(), unsafe=True)
    reason = "its weight has shape (2, 32), and its geometry says (5, 32): make them agree"
    assert sites_of(model)["5"].reason == reason
    with pytest.raises(LayerError, match="layer '5' cannot be factorised as svd: its weight has shape"):
        decompose_(model, {"5": SVD(1)}, doubles())
    with pytest.raises(LayerError, match="layer '5' cannot be factorised: its weight has shape"):
        layer_at(model, "5")


def test_a_plain_weight_of_another_shape_is_refused_too() -> None:
    model = plain()
    model[5].weight = nn.Parameter(torch.zeros(3, 32, dtype=torch.float64))
    model[5].bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    assert "its weight has shape (3, 32)" in str(sites_of(model)["5"].reason)
    model[5].weight = nn.Parameter(torch.zeros(5, 32, dtype=torch.float64))
    model[5].bias = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    assert sites_of(model)["5"].reason == "its bias has shape (1,), and its geometry says (5,)"


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_parametrisation_that_raises_is_refused(name: str) -> None:
    model = plain()
    parametrize.register_parametrization(model[5], name, Failing(1), unsafe=True)
    words = f"the parametrisation of its {name} fails (ArithmeticError: no more weights)"
    site = sites_of(model)["5"]
    assert site.reason == words
    assert (site.kind, site.macs) == ("Linear", 160)


def test_a_subclass_with_a_forward_pass_of_its_own_is_refused_parametrised_or_not() -> None:
    model = nn.Sequential(Own(3, 3, 3)).double()
    weight_norm(model[0])
    (site,) = find_layers(model, doubles())
    assert site.reason == "Own is a subclass with a forward pass of its own"
    assert site.kind == "Own"


class Scaled(nn.Conv2d):
    """Weight standardisation in the forward pass, as normaliser-free networks do it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def test_weight_standardisation_in_the_forward_pass_is_refused() -> None:
    (site,) = find_layers(nn.Sequential(Scaled(3, 3, 3)).double(), doubles())
    assert site.reason == "Scaled is a subclass with a forward pass of its own"


@pytest.mark.parametrize("kind", ["old", "new"])
@pytest.mark.parametrize("where", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_further_hooks_are_refused_as_on_any_layer(kind: str, where: str) -> None:
    model = weight_normed(kind)
    getattr(model[0], f"register_{where}_hook")(lambda *_: None)  # type: ignore[index]
    sites = {site.name: site for site in find_layers(model, images())}
    assert sites["0"].reason == "it carries hooks that a replacement would lose"
    assert sites["1"].reason is None


def test_a_weight_that_unknown_code_computes_is_refused() -> None:
    model = plain()
    layer = model[5]
    v = layer.weight
    del layer.weight
    layer.v, layer.weight = v, v.detach() * 2
    layer.register_forward_pre_hook(lambda layer, _: setattr(layer, "weight", layer.v * 2))
    assert sites_of(model)["5"].reason == "it carries hooks that a replacement would lose"
    layer._forward_pre_hooks.clear()
    assert "computed by code that is no parametrisation" in str(sites_of(model)["5"].reason)


@pytest.mark.parametrize("way", ["the user's own", "old weight norm", "pruned"])
def test_layers_that_share_what_computes_their_weight_stay(way: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)).double()
    for layer in model:
        WAYS[way](layer)
    if way == "the user's own":
        model[1].parametrizations.weight.original = model[0].parametrizations.weight.original
    else:
        name = {"old weight norm": "weight_v", "pruned": "weight_orig"}[way]
        setattr(model[1], name, getattr(model[0], name))
    reasons = [site.reason for site in find_layers(model, torch.zeros(2, 3, dtype=torch.float64))]
    assert reasons == ["it shares its weight with 1", "it shares its weight with 0", None]


def test_a_parametrisation_of_two_layers_ties_them() -> None:
    shared = Squashed()
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    for layer in model:
        parametrize.register_parametrization(layer, "weight", shared)
    reasons = [site.reason for site in find_layers(model, torch.zeros(2, 3, dtype=torch.float64))]
    assert reasons == ["it shares its weight with 1", "it shares its weight with 0"]


class Hyper(nn.Module):
    """A weight times the output of a small network."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.inner(weight)  # type: ignore[no-any-return]


def test_layers_inside_a_parametrisation_are_part_of_the_layer_around_them() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).double()
    parametrize.register_parametrization(model[0], "weight", Hyper(nn.Linear(3, 3).double()))
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert [(site.name, site.reason) for site in find_layers(model, x)] == [("0", None), ("1", None)]
    dense = model(x)
    decompose_(model, {"*": SVD(2), "0": SVD(3)}, x)
    torch.testing.assert_close(model(x), dense, rtol=0, atol=1e-10)


def test_a_layer_that_serves_inside_and_outside_a_parametrisation_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).double()
    parametrize.register_parametrization(model[1], "weight", Hyper(model[0]))  # type: ignore[arg-type]
    sites = {site.name: site for site in find_layers(model, torch.zeros(2, 3, dtype=torch.float64))}
    assert "shares its weight" in str(sites["0"].reason)
    assert "shares its weight" in str(sites["1"].reason)


def test_norms_of_other_modules_are_parametrised_without_being_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).double()
    parametrize.register_parametrization(model[1], "weight", Squashed())
    assert [site.name for site in find_layers(model, doubles())] == ["0"]


def test_a_layer_under_two_names_may_be_parametrised() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1).double()
    weight_norm(conv)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    other, dense = copy.deepcopy(model), model(doubles())
    (site,) = find_layers(model, doubles())
    assert (site.name, site.aliases, site.reason) == ("0", ("2",), None)
    plan = decompose_(model, {"0": Tucker2((3, 3))}, doubles())
    assert model[0] is model[2]
    torch.testing.assert_close(model(doubles()), dense, rtol=0, atol=1e-10)
    rebuild(other, plan).load_state_dict(model.state_dict())
    assert torch.equal(other(doubles()), model(doubles()))


class Square(nn.Conv2d):
    """A convolution made in another way, and nothing else."""

    expansion = 4

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.dirac_(self.weight)

    def extra_repr(self) -> str:
        return "square"


class Frozen(nn.Conv2d):
    """A convolution that does not go into training mode."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


class Halved(nn.Linear):
    """A weight that is read through a property."""

    def __init__(self, S: int, T: int) -> None:
        super().__init__(S, T)
        self.whole = self._parameters.pop("weight")

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.whole / 2


@pytest.mark.parametrize("normed", [False, True])
def test_a_subclass_that_changes_nothing_is_the_layer_that_it_inherits_from(normed: bool) -> None:
    model = nn.Sequential(Square(3), nn.Conv2d(3, 4, 1)).double()
    if normed:
        weight_norm(model[0])
        parametrize.register_parametrization(model[0], "bias", Squashed())
    first = sites_of(model)["0"]
    assert (first.kind, first.reason, first.macs) == ("Square", None, 81 * 144)
    assert first.spec is not None
    assert (first.spec.bias, first.spec.padding) == (True, (1, 1))
    other, dense = copy.deepcopy(model), model(doubles())
    plan = decompose_(model, {"0": Tucker2((3, 3))}, doubles())
    torch.testing.assert_close(model(doubles()), dense, rtol=0, atol=1e-10)
    rebuild(other, plan).load_state_dict(model.state_dict())
    assert torch.equal(other(doubles()), model(doubles()))


def test_a_subclass_that_changes_something_is_named_with_it() -> None:
    model = nn.Sequential(Frozen(3, 3, 3), nn.Flatten(), Halved(300, 2)).double()
    assert [site.reason for site in find_layers(model, doubles())] == [
        "Frozen is a subclass with train of its own",
        "Halved is a subclass with weight of its own",
    ]
    with pytest.raises(LayerError, match="layer '0' is a Frozen, not a plain convolution or Linear"):
        layer_at(model, "0")
