"""Random small networks: at full rank every format agrees with the dense network, and costs with torch's counter.

    python benchmarks/differential.py [networks] [first seed]

Each network is drawn from its seed: branches, shared modules, residual sums (in place too), concatenation, grouped,
dilated, strided and transposed layers, all padding modes, functional calls, norms, one or two inputs, and layers that
were changed after they were made. In float64 the answers after replacing every layer that a format takes, at its full
rank, are within 1e-8 of the dense ones; MACs and parameters before and after are those that torch counts.
"""

from __future__ import annotations

import random
import sys
import types
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyadic.formats import FORMATS
from polyadic.schema import Choice, Plan, chain_macs, chain_params
from polyadic.surgery import find_layers, network_cost, plan_stages, replace_one_by_one

SIZE = 8  # of the images
TOLERANCE = 1e-8

Step = tuple[str, str, tuple[int, ...]]  # what is done, the module that does it, and the numbers of what it reads


class RandomNetwork(nn.Module):
    """A network drawn from a seed: (N, 3, 8, 8) to a dict of tensors. A second input is made of the first."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.steps: list[Step] = []
        self.rng = random.Random(seed)
        self.shapes = [(3, SIZE), (3, SIZE)]  # channels and size of each tensor so far
        for _ in range(self.rng.randint(4, 9)):
            self._draw()
        self._head()
        del self.rng

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Carry out the steps."""
        tensors = [x, x.flip(-1)]
        for what, name, reads in self.steps:
            tensors.append(self._carry_out(what, name, [tensors[number] for number in reads]))
        return {"answer": tensors[-1], "features": tensors[-2]}

    def _carry_out(self, what: str, name: str, given: list[Tensor]) -> Tensor:
        x = given[0]
        if what == "add":
            return x + given[1]
        if what == "add in place":
            x = x.clone()
            x += given[1]
            return x
        if what == "concatenate":
            return torch.cat(given, 1)
        if what == "pool":
            return F.avg_pool2d(x, 2)
        if what == "functional":
            return F.conv2d(x, self.layers[name].weight, self.layers[name].bias, padding=1)
        if what == "one by one":
            return torch.stack([self.layers[name](each) for each in x])
        if what == "head":
            return self.layers[name](x.mean((2, 3)))
        if what == "tokens":
            return self.layers[name](x.flatten(2).mT).mT.unflatten(2, x.shape[2:])
        return self.layers[name](x)

    def _step(self, what: str, layer: nn.Module | str, reads: tuple[int, ...], shape: tuple[int, int]) -> None:
        name = layer if isinstance(layer, str) else f"m{len(self.layers)}"
        if isinstance(layer, nn.Module):
            self.layers[name] = layer
        self.steps.append((what, name, reads))
        self.shapes.append(shape)

    def _draw(self) -> None:
        at = self.rng.randrange(len(self.shapes)) if self.rng.random() < 0.3 else len(self.shapes) - 1
        channels, size = self.shapes[at]
        same = [n for n, shape in enumerate(self.shapes) if shape == (channels, size) and n != at]
        kind = self.rng.choice(
            ["conv"] * 5 + ["spread", "norm", "act", "sum", "cat", "pool", "again", "tokens", "tied"]
        )
        if kind == "spread" and size <= SIZE:
            layer, size = self._spreading(channels, size)
            self._step("run", layer, (at,), (layer.out_channels, size))
        elif kind in ("norm", "act"):
            norms = [nn.BatchNorm2d(channels), nn.GroupNorm(1, channels), nn.InstanceNorm2d(channels)]
            acts = [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Dropout(0.5)]
            self._step("run", self.rng.choice(norms if kind == "norm" else acts), (at,), (channels, size))
        elif kind == "sum" and same:
            self._step(self.rng.choice(["add", "add in place"]), "", (at, self.rng.choice(same)), (channels, size))
        elif kind == "cat" and same:
            self._step("concatenate", "", (at, self.rng.choice(same)), (2 * channels, size))
        elif kind == "pool" and size >= 4:
            self._step("pool", "", (at,), (channels, size // 2))
        elif kind == "again" and (fitting := self._fitting(channels)):
            what = self.rng.choice(["run", "functional", "one by one"])
            self._step(what, self.rng.choice(fitting), (at,), (channels, size))
        elif kind == "tokens":
            layer = nn.Linear(channels, self.rng.choice([3, 4, 6]))
            self._step("tokens", layer, (at,), (layer.out_features, size))
        elif kind == "tied" and (fitting := self._fitting(channels)):
            twin, first = nn.Conv2d(channels, channels, 3, padding=1), self.layers[self.rng.choice(fitting)]
            name = self.rng.choice(["weight", "bias"])
            setattr(twin, name, getattr(first, name))
            self._step("run", twin, (at,), (channels, size))
        else:
            layer, size = self._gathering(channels, size)
            self._step("run", layer, (at,), (layer.out_channels, size))

    def _fitting(self, channels: int) -> list[str]:
        """Layers that may run, or be read, once more: of this many channels, before and after, that keep the size."""
        plain = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
        return [
            name
            for name, layer in self.layers.items()
            if type(layer) is nn.Conv2d
            and (layer.in_channels, layer.out_channels) == (channels, channels)
            and layer.bias is not None
            and all(getattr(layer, attribute) == value for attribute, value in plain.items())
        ]

    def _gathering(self, channels: int, size: int) -> tuple[nn.Conv2d, int]:
        rng = self.rng
        kernel = rng.choice([(3, 3), (3, 3), (1, 1), (1, 3), (5, 3)])
        groups = rng.choice([1, 1, 1, *(g for g in (2, 3) if channels % g == 0), channels])
        padding: Any = tuple((window - 1) // 2 for window in kernel)
        stride = rng.choice([1, 1, 1, 2]) if size >= 4 else 1
        if stride == 1 and rng.random() < 0.2:
            padding = "same"
        mode = rng.choice(["zeros"] * 4 + ["reflect", "replicate", "circular"]) if size > 3 else "zeros"
        layer = nn.Conv2d(
            channels, rng.choice([1, 2, channels // groups]) * groups, kernel, stride, padding, groups=groups,
            bias=rng.random() < 0.7, padding_mode=mode,
        )  # fmt: skip
        if padding != "same" and mode == "zeros" and rng.random() < 0.15:
            layer.stride = stride  # type: ignore[assignment]
        elif rng.random() < 0.1:
            layer._conv_forward = types.MethodType(_doubled, layer)  # type: ignore[method-assign]
        return layer, -(-size // stride)

    def _spreading(self, channels: int, size: int) -> tuple[nn.ConvTranspose2d, int]:
        groups = self.rng.choice([1, 1, *(g for g in (2, 3) if channels % g == 0)])
        T = groups * self.rng.choice([1, 2])
        if self.rng.random() < 0.5:
            return nn.ConvTranspose2d(channels, T, 2, 2, groups=groups), 2 * size
        return nn.ConvTranspose2d(channels, T, 3, 2, 1, 1, groups=groups), 2 * size

    def _head(self) -> None:
        channels, _ = self.shapes[-1]
        self._step("head", nn.Linear(channels, 5), (len(self.shapes) - 1,), (5, 1))


def _doubled(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return 2 * nn.Conv2d._conv_forward(self, x, weight, bias)


def check_network(seed: int, formats: tuple[str, ...] = tuple(FORMATS)) -> tuple[Counter[str], list[str]]:
    """How many layers each format replaced in the network of this seed; and what went wrong, in words."""
    torch.manual_seed(seed)
    dense = RandomNetwork(seed).double().eval()
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    replaced: Counter[str] = Counter()
    wrong: list[str] = []
    with torch.no_grad():
        expected = dense(x)
        cost = network_cost(dense, x)
        sites = {site.name: site for site in find_layers(dense, x)}
        for name in formats:
            fmt = FORMATS[name]
            plan = Plan(tuple(
                Choice(site.name, name, fmt.largest_rank(site.spec)) for site in sites.values()
                if site.reason is None and site.spec is not None and fmt.refuses(site.spec) is None
            ))  # fmt: skip
            if not plan.choices:
                continue
            specs = {choice.layer: sites[choice.layer].spec for choice in plan.choices}
            network, _ = replace_one_by_one(
                dense, plan,
                lambda choice, kernel, _, fmt=fmt, specs=specs: fmt.factorise(
                    kernel, specs[choice.layer], choice.rank, seed
                ),
            )  # fmt: skip
            got = network(x)
            for key, value in expected.items():
                off = float((got[key] - value).norm() / (value.norm() + 1e-30))
                if not off < TOLERANCE:
                    wrong.append(f"seed {seed}, {name}: {key} is off by {off:.2g}")
            replaced[name] += len(plan.choices)
            if name != "tt-matrix":  # what that costs depends on its way
                wrong += _wrong_costs(f"seed {seed}, {name}", dense, network, plan, sites, cost, x)
    return replaced, wrong


def _wrong_costs(
    words: str, dense: nn.Module, network: nn.Module, plan: Plan, sites: Any, cost: Any, x: Tensor
) -> list[str]:
    """Where the costs of the chains in integers are not those that torch counts of the network."""
    counted, stages = network_cost(network, x), plan_stages(dense, plan)
    macs = sum(
        sites[name].macs - sum(chain_macs(chain, s) for s in sites[name].input_sizes) for name, chain in stages.items()
    )
    params = sum(sites[name].params - chain_params(chain) for name, chain in stages.items())
    wrong = []
    if cost.macs - counted.macs != macs:
        wrong.append(f"{words}: {cost.macs - counted.macs} MACs saved, and {macs} expected")
    if cost.params - counted.params != params:
        wrong.append(f"{words}: {cost.params - counted.params} parameters saved, and {params} expected")
    return wrong


def main(networks: int = 300, first: int = 0) -> None:
    """Check them all, and write the outcome."""
    from record import record  # beside this script

    replaced: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(first, first + networks):
        counts, found = check_network(seed)
        replaced += counts
        wrong += found
        for line in found:
            print(line, flush=True)
    print(f"{networks} networks, {sum(replaced.values())} layers replaced, {len(wrong)} differences")
    record("differential", {"networks": networks, "first_seed": first, "replaced": dict(replaced), "wrong": wrong})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
