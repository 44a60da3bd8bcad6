"""Random small networks: at full rank every format agrees with the dense network, and so do its files and its costs.

    python benchmarks/differential.py [--resume] [networks] [first seed] [every how many are exported]

Each network of ``random_networks.py`` is drawn from its seed; every layer that a format takes is replaced at its full
rank. Then, in float64, the answers are within 1e-8 of the dense ones, MACs and parameters are those that torch counts,
and what was written and loaded answers bit for bit the same. Of a stated share, one format each in turn, the network
is also written as ``.onnx`` and ``.pt2`` in float32, run in ONNX Runtime and torch, and within 1e-4 and 1e-6 of itself.
An export that fails for the dense network too is the exporter's own refusal, and is counted with its reason.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from random_networks import RandomNetwork
from torch import Tensor, nn

from polyadic.errors import EngineError
from polyadic.export import FILE_FORMATS, Origin, export_network, load, save_applied
from polyadic.formats import FORMATS
from polyadic.pipeline import Applied
from polyadic.schema import Choice, Plan, chain_macs, chain_params
from polyadic.surgery import find_layers, network_cost, plan_stages, replace_one_by_one

TOLERANCE = 1e-8
EXPORTS = {"onnx": 1e-4, "pt2": 1e-6}  # how far a file may be from its network, relative to the largest output
EXPORTED = 10  # every how many networks


@dataclass
class Found:
    """What was checked, and what went wrong.

    Attributes:
        replaced: layers, by format.
        saved: networks that were written and loaded, by format.
        exported: networks that were written and run elsewhere, by format of file.
        refused: exports that the dense network is refused too, by format of file and reason.
        wrong: in words.
    """

    replaced: Counter[str] = field(default_factory=Counter)
    saved: Counter[str] = field(default_factory=Counter)
    exported: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: Found) -> Found:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


class Given(nn.Module):
    """A network whose further inputs are given, so that it takes one."""

    def __init__(self, network: nn.Module, *others: Tensor) -> None:
        super().__init__()
        self.network, self.others = network, others

    def forward(self, x: Tensor) -> Any:
        """One pass over as many samples as ``x`` holds."""
        return self.network(x, *(other[: len(x)] for other in self.others))


def check_network(seed: int, formats: tuple[str, ...] = tuple(FORMATS), exported: str | None = None) -> Found:
    """Check the network of this seed in ``formats``, and with the files of one of them if ``exported`` names it."""
    torch.manual_seed(seed)
    dense = RandomNetwork(seed).double().eval()
    inputs = dense.inputs(2)
    found = Found()
    with torch.no_grad():
        expected = dense(*inputs)
        cost = network_cost(Given(dense, *inputs[1:]), inputs[0])
        sites = {site.name: site for site in find_layers(dense, inputs)}
        for name in formats:
            words, fmt = f"seed {seed}, {name}", FORMATS[name]
            plan = Plan(tuple(
                Choice(site.name, name, fmt.largest_rank(site.spec)) for site in sites.values()
                if site.reason is None and site.spec is not None and fmt.refuses(site.spec) is None
            ))  # fmt: skip
            if not plan.choices:
                continue
            specs = {choice.layer: sites[choice.layer].spec for choice in plan.choices}
            network, kernels = replace_one_by_one(
                dense, plan,
                lambda choice, kernel, _, fmt=fmt, specs=specs: fmt.factorise(
                    kernel, specs[choice.layer], choice.rank, seed
                ),
            )  # fmt: skip
            got = network(*inputs)
            for key, value in expected.items():
                off = float((got[key] - value).norm() / (value.norm() + 1e-30))
                if not off < TOLERANCE:
                    found.wrong.append(f"{words}: {key} is off by {off:.2g}")
            found.replaced[name] += len(plan.choices)
            if name != "tt-matrix":  # what that costs depends on its way
                found.wrong += _wrong_costs(words, dense, network, plan, sites, cost, inputs)
            found.wrong += _wrong_when_loaded(words, seed, dense, Applied(network, plan, kernels, False), inputs)
            found.saved[name] += 1
            if name == exported:
                for target in EXPORTS:
                    _export(words, target, dense, network, inputs, found)
    return found


def _wrong_costs(
    words: str, dense: nn.Module, network: nn.Module, plan: Plan, sites: Any, cost: Any, inputs: tuple[Tensor, ...]
) -> list[str]:
    """Where the costs of the chains in integers are not those that torch counts of the network."""
    counted, stages = network_cost(Given(network, *inputs[1:]), inputs[0]), plan_stages(dense, plan)
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


def _wrong_when_loaded(
    words: str, seed: int, dense: nn.Module, applied: Applied, inputs: tuple[Tensor, ...]
) -> list[str]:
    """Where the network that was written and loaded, into a dense one of other weights, answers otherwise."""
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        try:
            save_applied(applied, dense, folder, Origin(input_shape=tuple(inputs[0].shape[1:])))
            loaded = load(folder, RandomNetwork(seed).double())
        except Exception as error:
            return [f"{words}: it is not written and loaded: {type(error).__name__}: {error}"]
    expected, got = applied.model(*inputs), loaded(*inputs)
    return [
        f"{words}: loaded, {key} is off by {float((got[key] - value).abs().max()):.2g}"
        for key, value in expected.items()
        if not torch.equal(got[key], value)
    ]


def _export(
    words: str, target: str, dense: nn.Module, network: nn.Module, inputs: tuple[Tensor, ...], found: Found
) -> None:
    """Write and run one file; a failure counts as the exporter's own where the dense network fails too."""
    reason, off = _run_file(target, network, inputs)
    if reason is None:
        found.exported[target] += 1
        if not off <= EXPORTS[target]:
            found.wrong.append(f"{words}: its {target} file is off by {off:.2g}")
        return
    of_dense, _ = _run_file(target, dense, inputs)
    if of_dense is None or "differs from its network" in reason:
        found.wrong.append(f"{words}: {reason}")
    else:
        found.refused[f"{target}: {_in_general(of_dense)}"] += 1


def _run_file(target: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str | None, float]:
    """Why there is no file, if there is none; and how far its answers are from those of the network."""
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        path = Path(folder) / f"model{FILE_FORMATS[target].suffixes[0]}"
        try:
            (written,) = export_network(network, {target: path}, inputs)
        except EngineError as error:
            return str(error).splitlines()[0], 0.0
        except Exception as error:  # Polyadic promises an EngineError
            return f"{type(error).__name__} instead of an EngineError: {error}", 0.0
    return None, max(comparison.relative for comparison in written.comparisons)


def _in_general(reason: str) -> str:
    """A reason without names and numbers of this one network."""
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'|\"[^\"]*\"", "...", reason))[:160]


def main(networks: int = 300, first: int = 0, every: int = EXPORTED, *, resume: bool = False) -> None:
    """Check them all; the outcome so far is written every 50 networks, and ``resume`` goes on from there."""
    from record import RESULTS, record  # beside this script

    torch.set_num_threads(1)
    found, names, begin = Found(), tuple(FORMATS), 1
    if resume:
        so_far = json.loads((RESULTS / "differential.json").read_text())
        if (so_far["first_seed"], so_far["exported_every"]) != (first, every):
            raise SystemExit("the results are of other seeds, or of another share of exports")
        found += Found(**{name: kind(so_far[name]) for name, kind in ((k, type(v)) for k, v in vars(found).items())})
        begin = so_far["networks"] + 1
    for done in range(begin, networks + 1):
        seed = first + done - 1
        if done == begin + 1 or seed % every == 1:
            gc.freeze()  # the search for layers collects garbage, and torch's exporter leaves much that is none
        try:
            one = check_network(seed, exported=names[seed // every % len(names)] if seed % every == 0 else None)
        except Exception as error:  # one that fails is a finding, and the others are checked still
            one = Found(wrong=[f"seed {seed}: {type(error).__name__}: {error}"])
        found += one
        for line in one.wrong:
            print(line, flush=True)
        if done % 50 == 0 or done == networks:
            saved, exported = sum(found.saved.values()), dict(found.exported)
            print(
                f"{done} of {networks} networks: {sum(found.replaced.values())} layers replaced, {saved} networks "
                f"written and loaded, exported {exported}, {len(found.wrong)} differences", flush=True,
            )  # fmt: skip
            record("differential", {"networks": done, "of": networks, "first_seed": first, "exported_every": every,
                                    **vars(found)})  # fmt: skip


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--resume"]
    main(*map(int, given), resume="--resume" in sys.argv)
