"""A quantizer that only adds noise, so that what is nearest to the float network is known."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from polyadic.engines import Conditions, Prepared
from polyadic.quantization import Artefact, Quantizer, QuantizerSession, Recipe


class Modules(Prepared):
    """A module behind the interface of an engine."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module, self.example = module, example

    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        assert inputs[0].shape == self.example.shape
        with torch.no_grad():
            return (self.module(inputs[0]),)

    def once(self) -> None:
        self.answer(self.example)


NOISE = {"loud": 1.0, "quiet": 0.5}
SHARE = {(): 1.0, ("last",): 0.5, ("first",): 0.95, ("first", "last"): 0.45}
"""How much of the noise is left where ends are kept in float32."""


class Noisy(Quantizer):
    """Adds noise to the weights of the classifier, by recipe; remembers what it was shown."""

    name, missing = "noisy", lambda self: None
    methods, keeps_ends, corrects = ("loud", "quiet"), True, False

    def __init__(self) -> None:
        self.made: list[nn.Module] = []
        self.batches: list[Tensor] = []

    def _open(self, network: nn.Module, batches: object) -> QuantizerSession:
        assert isinstance(batches, list)
        self.batches = batches
        owner = self

        class Noise(QuantizerSession):
            def write_float(self) -> Artefact:
                return owner.kept(network, 0.0, 4)

            def quantize(self, recipe: Recipe) -> Artefact:
                return owner.kept(network, NOISE[recipe.method] * SHARE[recipe.kept], 1)

        return Noise()

    def kept(self, network: nn.Module, noise: float, width: int) -> Artefact:
        made = copy.deepcopy(network)
        with torch.no_grad():
            weight = made.get_submodule("head").get_parameter("weight")
            weight += noise * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        self.made.append(made)
        return Artefact({".bin": bytes([len(self.made) - 1]) * width})

    def prepare(self, artefact: Artefact, example: Tensor, conditions: Conditions) -> Prepared:
        return Modules(self.made[artefact.files[".bin"][0]], example)
