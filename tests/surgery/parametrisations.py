"""Layers whose weight is computed, in every way that torch offers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from nets import images, seeded
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from polyadic.schema import LayerSite
from polyadic.surgery import find_layers


class Squashed(nn.Module):
    """``a tanh(W)`` with a learned ``a``."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, weight: Tensor) -> Tensor:
        return self.a * weight.tanh()


class Standardised(nn.Module):
    """Every output's weights with mean 0 and norm 1."""

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        return (rows / rows.norm(dim=1, keepdim=True)).reshape(weight.shape)


class FirstHalf(nn.Module):
    """Half of the outputs are cut off."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight[: len(weight) // 2]


class Failing(nn.Module):
    """Works ``times`` times, then raises."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, weight: Tensor) -> Tensor:
        self.times -= 1
        if self.times < 0:
            raise ArithmeticError("no more weights")
        return weight


class Noisy(nn.Module):
    """Drops weights in training, none in use."""

    def forward(self, weight: Tensor) -> Tensor:
        return nn.functional.dropout(weight, 0.5, self.training)


def _old(register: Callable[..., Any], layer: nn.Module, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        register(layer, **options)


def old_weight_normed(module: nn.Module, name: str) -> None:
    """The older weight norm, without its warning."""
    _old(old_weight_norm, module, name=name)


def _together(layer: nn.Module) -> None:
    weight_norm(layer)
    parametrize.register_parametrization(layer, "weight", Squashed())
    parametrize.register_parametrization(layer, "bias", Squashed())


def _pruned_twice(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", amount=0.3)
    prune.random_unstructured(layer, "weight", amount=0.3)
    prune.random_unstructured(layer, "bias", amount=1)


WAYS: dict[str, Callable[[nn.Module], Any]] = {
    "weight norm": weight_norm,
    "weight norm over inputs": lambda layer: weight_norm(layer, dim=1),
    "spectral norm": spectral_norm,
    "orthogonal": orthogonal,
    "the user's own": lambda layer: parametrize.register_parametrization(layer, "weight", Squashed()),
    "standardised": lambda layer: parametrize.register_parametrization(layer, "weight", Standardised()),
    "noisy in training": lambda layer: parametrize.register_parametrization(layer, "weight", Noisy()),
    "two in a row, and the bias": _together,
    "old weight norm": lambda layer: _old(old_weight_norm, layer),
    "old weight norm of the bias": lambda layer: _old(old_weight_norm, layer, name="bias"),
    "old spectral norm": lambda layer: _old(old_spectral_norm, layer),
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.3),
    "pruned twice, and the bias": _pruned_twice,
}


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """``model`` after a few forward passes in training: power iterations have begun, statistics are its own."""
    model.train()
    for _ in range(3):
        model(x)
    return model


def plain(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Convolutions and a Linear, (N, 3, 12, 12) to (N, 5), with batch norm between."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).to(dtype)


def computed(way: str, layers: tuple[int, ...] = (1, 5)) -> nn.Sequential:
    """The same with some layers parametrised, after some training."""
    model = seeded(plain)
    assert isinstance(model, nn.Sequential)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for number in layers:
            WAYS[way](model[number])
        settled(model, doubles(8))
    return model


def doubles(count: int = 4, seed: int = 0) -> Tensor:
    """Random images (N, 3, 12, 12) in double precision."""
    return images(count, seed, torch.float64)


def sites_of(model: nn.Module) -> dict[str, LayerSite]:
    """The sites by name."""
    return {site.name: site for site in find_layers(model, doubles())}
