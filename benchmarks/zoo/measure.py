"""What Polyadic finds in a network, what it saves at one ratio, and whether the chains at full rank are the network."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.decomposition import InputNorm, Tucker2Options
from polyadic.formats import FactoredKernel, Format, Tucker2Format, format_named
from polyadic.schema import Choice, ConvSpec, LayerSite, Plan, Rank, chain_params
from polyadic.surgery import find_layers, layer_at, network_cost, replace_one_by_one, separate_for_good
from zoo.networks import Network

# Random kernels have no structure that further sweeps could find.
FORMATS: dict[str, Format] = {"tucker2": Tucker2Format(Tucker2Options(max_sweeps=1)), "svd": format_named("svd")}

NO_RANK = "no rank has so few parameters"
EXACT = 1e-9  # relative; rounding in float64 through a hundred layers stays far below
TOO_LARGE = "it is too large to be decomposed here (--largest)"


@dataclass(frozen=True)
class Chosen:
    """A plan, and the reasons of the layers that it leaves dense, by their names."""

    plan: Plan
    left: dict[str, str]

    def skipped(self) -> dict[str, dict[str, Any]]:
        """How many layers are left dense, by reason, and the first of each."""
        counts = Counter(self.left.values())
        return {
            reason: {"count": count, "first": next(name for name, why in self.left.items() if why == reason)}
            for reason, count in counts.items()
        }


def measured(network: Network, ratio: float, largest: float) -> dict[str, Any]:
    """The row of ``network``: its layers, at ``ratio`` times fewer parameters per layer, and at full rank."""
    began = time.perf_counter()
    dense, example = network.build(), example_of(network.shape)
    separate_for_good(dense, example)  # projections of attention are looked at by their names
    built = time.perf_counter()
    sites = find_layers(dense, example)
    found = time.perf_counter()
    at_ratio = reduced(dense, sites, example, ratio, largest)
    compressed = time.perf_counter()
    exact = at_full_rank(dense, sites, example, largest)
    ended = time.perf_counter()
    return {
        "group": network.group,
        "input": list(network.shape),
        "layers": len(sites),
        "candidates": sum(site.reason is None for site in sites),
        "unheard": unheard(dense, sites, example),
        "reduced": at_ratio,
        "full_rank": exact,
        "seconds": {
            "build": built - began,
            "find": found - built,
            "reduced": compressed - found,
            "full_rank": ended - compressed,
        },
    }


def faults(row: dict[str, Any]) -> list[str]:
    """What is wrong with a row, in words; nothing if all is well."""
    if "error" in row:
        return [row["error"]]
    reduced, full = row["reduced"], row["full_rank"]
    found = {
        f"differs by {full['difference']:.0e} at full rank": not full["difference"] <= EXACT,
        "numbers that are not finite": not reduced["finite"],
        "an output of another shape": not reduced["same_shape"],
        "is not cheaper": not (reduced["params"][1] < reduced["params"][0] and reduced["macs"][1] < reduced["macs"][0]),
        f"{reduced['macs'][1]} MACs, and its geometry says {reduced['macs_foreseen']}": (
            reduced["macs"][1] != reduced["macs_foreseen"]
        ),
        f"the output does not depend on {', '.join(row['unheard'])}": bool(row["unheard"]),
    }
    return [words for words, wrong in found.items() if wrong]


def example_of(shape: tuple[int, ...]) -> Tensor:
    """A random input, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def reduced(
    dense: nn.Module, sites: Iterable[LayerSite], example: Tensor, ratio: float, largest: float = math.inf
) -> dict[str, Any]:
    """Every layer of at most ``largest`` parameters that a format serves with ``ratio`` times fewer of them.

    What that saves, by count and by the geometry of the layers, and whether the network runs.
    """
    chosen = plan_within(sites, ratio, largest)
    network, _ = replace_one_by_one(dense, chosen.plan, factorise_in(dense))
    before, after = network_cost(dense, example), network_cost(network, example)
    wanted, got = answer(dense, example), answer(network, example)
    return {
        "ratio": ratio,
        "layers": len(chosen.plan.choices),
        "skipped": chosen.skipped(),
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "macs_foreseen": before.macs + macs_gained(sites, chosen.plan),
        "same_shape": wanted.shape == got.shape,
        "finite": bool(got.isfinite().all()),
        "difference": difference(wanted, got),
    }


def macs_gained(sites: Iterable[LayerSite], plan: Plan) -> int:
    """What a plan adds to the MACs of a network (a negative number), reckoned from the geometry of its layers."""
    gained = 0
    for site in sites:
        choice = plan.of(site.name)
        if choice is not None and site.spec is not None:
            stages = FORMATS[choice.format].stages(site.spec, choice.rank)
            gained += site.chain_macs(stages) - site.macs
    return gained


def at_full_rank(
    dense: nn.Module, sites: Iterable[LayerSite], example: Tensor, largest: float = math.inf
) -> dict[str, Any]:
    """Every layer of at most ``largest`` parameters at the rank that loses nothing, in float64."""
    chosen = plan_exact(sites, largest)
    dense, example = copy.deepcopy(dense).double(), example.double()
    network, _ = replace_one_by_one(dense, chosen.plan, factorise_in(dense))
    return {
        "layers": len(chosen.plan.choices),
        "difference": difference(answer(dense, example), answer(network, example)),
    }


def format_for(spec: ConvSpec) -> Format:
    """Tucker-2 for windows, the SVD for matrices."""
    return FORMATS["tucker2" if spec.taps > 1 else "svd"]


def plan_within(sites: Iterable[LayerSite], ratio: float, largest: float) -> Chosen:
    """For every layer of at most ``largest`` parameters the largest ranks at which it has ``1 / ratio`` of them."""
    return _plan(sites, largest, lambda fmt, spec: rank_within(fmt, spec, spec.params / ratio) or NO_RANK)


def plan_exact(sites: Iterable[LayerSite], largest: float) -> Chosen:
    """For every layer of at most ``largest`` parameters the ranks beyond which nothing is gained."""
    return _plan(sites, largest, lambda fmt, spec: fmt.largest_rank(spec))


def rank_within(fmt: Format, spec: ConvSpec, params: float) -> Rank | None:
    """The largest common share of the full ranks whose chain has at most ``params``; None if rank 1 has more."""

    def at(share: float) -> Rank:
        return tuple(max(int(share * rank), 1) for rank in fmt.largest_rank(spec))

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chain_params(fmt.stages(spec, at(middle))) <= params else (low, middle)
    return at(low) if chain_params(fmt.stages(spec, at(low))) <= params else None


def answer(network: nn.Module, example: Tensor) -> Tensor:
    """All tensors that ``network`` answers with, one after the other, flat."""
    with torch.no_grad():
        return torch.cat([tensor.flatten() for tensor in _tensors(network(example))])


def difference(wanted: Tensor, got: Tensor) -> float:
    """The largest difference, relative to the largest number that was wanted; infinite between shapes."""
    if wanted.shape != got.shape:
        return math.inf
    return float((wanted - got).abs().max() / wanted.abs().max())


def unheard(dense: nn.Module, sites: Iterable[LayerSite], example: Tensor) -> list[str]:
    """Candidates whose weight the output does not depend on, so that nothing here could tell if they went wrong."""
    network = copy.deepcopy(dense)
    answers = torch.cat([tensor.flatten() for tensor in _tensors(network(example))])
    answers.backward(example_of(tuple(answers.shape)))  # type: ignore[no-untyped-call]
    return [
        site.name
        for site in sites
        if site.reason is None
        and not any(
            parameter.grad is not None and parameter.grad.any()
            for parameter in network.get_submodule(site.name).parameters()
            if parameter.ndim >= 2
        )
    ]


def factorise_in(model: nn.Module) -> Any:
    """Decompose a kernel of ``model`` as a plan chooses."""
    return partial(_factorise, model)


def _factorise(model: nn.Module, choice: Choice, kernel: Tensor, norm: InputNorm | None) -> FactoredKernel:
    _, _, spec = layer_at(model, choice.layer)
    return FORMATS[choice.format].factorise(kernel, spec, choice.rank, 0, norm)


def _plan(sites: Iterable[LayerSite], largest: float, rank_for: Callable[[Format, ConvSpec], Rank | str]) -> Chosen:
    choices, left = [], {}
    for site in sites:
        if site.reason is not None or site.spec is None:
            left[site.name] = site.reason or "its geometry is unknown"
            continue
        fmt = format_for(site.spec)
        reason = fmt.refuses(site.spec) or (TOO_LARGE if site.params > largest else None)
        rank = reason or rank_for(fmt, site.spec)
        if isinstance(rank, str):
            left[site.name] = rank
        else:
            choices.append(Choice(site.name, fmt.name, rank))
    return Chosen(Plan(tuple(choices)), left)


def _tensors(answers: Any) -> list[Tensor]:
    if isinstance(answers, Tensor):
        return [answers]
    items = answers.values() if isinstance(answers, dict) else answers
    return [tensor for item in items for tensor in _tensors(item)]
