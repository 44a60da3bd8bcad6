"""What each layer alone costs and does at every rank: a few rows are tried, the others follow from the kernel's error.

Of each layer up to three ranks are tried with all other layers dense. In between the harm is read off a curve over the
relative error (:mod:`polyadic.search.loss_curve`): what an error of a given size does depends on the layer, and little
on the format that made it, so all formats of a layer share their rows. The table serves any budget.

Where errors are not known every rank is tried. Noise and local minima of decompositions can make a dearer rank look
worse than a cheaper one; so the harm of a rank is the least that it or a cheaper one of its format did.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyadic.schema import Measure, Plan
from polyadic.search.loss_curve import LossCurve
from polyadic.search.rank_candidates import RankCandidates
from polyadic.search.rank_search import SearchSpace, Trial, single_layer_plan

_ROWS = 3  # of each layer: two ends and what lies between
_SHARES = (0.1, 0.25, 0.5)  # of the dense layer's MACs: where layers end up at budgets from a half to a tenth
_SLIGHT = 0.05  # relative errors below it do next to nothing, and a trial would tell noise


@dataclass(frozen=True)
class Option:
    """One thing that can become of a layer.

    Attributes:
        ladder: in which format; None leaves the layer dense.
        position: at which rank.
        macs: saved against the dense layer.
        params: saved against the dense layer.
        harm: loss, or points of score where no loss was measured.
        latency: milliseconds saved against the dense layer; 0 where nobody has timed it.
    """

    candidates: RankCandidates | None
    position: int
    macs: int
    params: int
    loss: float
    latency: float = 0.0

    @staticmethod
    def of(candidates: RankCandidates, at: int, loss: float) -> Option:
        """The rank at a position of a ladder."""
        macs, params = (int(candidates.saved(at, measure)) for measure in ("macs", "params"))
        return Option(candidates, at, macs, params, loss, candidates.saved(at, "latency"))

    def saved(self, measure: Measure) -> float:
        """What it saves against the dense layer."""
        return {"macs": self.macs, "params": self.params, "latency": self.latency}[measure]


DENSE = Option(None, -1, 0, 0, 0.0)
"""What a layer is that stays as it is."""


def anchors(candidates: RankCandidates) -> list[int]:
    """Positions of a ladder that a table is built on: their errors have to be known, others may be interpolated."""
    last = len(candidates.ranks) - 1
    found = sorted({candidates.within(share * candidates.dense_macs) for share in _SHARES})
    return found if len(found) == _ROWS else sorted({0, last // 2, last})


def probes(space: SearchSpace) -> list[Plan]:
    """The plans that fill the table, layer after layer."""
    return [
        single_layer_plan(candidates, at)
        for all_candidates in space.by_layer().values()
        for candidates, at in _rows(all_candidates)
    ]


def missing_probe(space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan]) -> Plan | None:
    """The first plan of the table that nobody has tried or is trying."""
    known = {trial.plan for trial in trials if trial.joint} | set(running)
    return next((plan for plan in probes(space) if plan not in known), None)


def is_complete(space: SearchSpace, trials: Sequence[Trial]) -> bool:
    """Whether every row is there."""
    return missing_probe(space, trials, ()) is None


def options_of(space: SearchSpace, trials: Sequence[Trial]) -> dict[str, list[Option]]:
    """For each layer its options, the dense one first, then by falling cost; those that another beats are left out."""
    losses = {trial.plan: max(trial.loss, 0.0) for trial in trials if trial.joint and len(trial.plan.choices) == 1}
    least = min((loss for loss in losses.values() if 0 < loss < math.inf), default=1.0)
    table = {}
    for layer, all_candidates in space.by_layer().items():
        read = _interpolated if _has_errors(all_candidates) else _measured
        found = sorted(
            read(all_candidates, losses, least), key=lambda option: (option.saved(space.measure), option.loss)
        )
        rising = [DENSE, *found]
        table[layer] = [option for option in rising if not any(_beats(other, option) for other in rising)]
    return table


def _rows(all_candidates: Sequence[RankCandidates]) -> list[tuple[RankCandidates, int]]:
    """What is tried of one layer: every rank, or the ends and the middle of what errors there are to choose from."""
    if not _has_errors(all_candidates):
        return [(candidates, at) for candidates in all_candidates for at in range(len(candidates.ranks))]
    known = [(_errors(candidates)[at], candidates, at) for candidates in all_candidates for at in anchors(candidates)]
    if len(all_candidates) > 1:
        known = [
            row
            for row in known
            if not any(error < row[0] and other.macs[at] <= row[1].macs[row[2]] for error, other, at in known)
        ]
    falling = sorted(known, key=lambda row: -row[0])
    worth = [row for row in falling if row[0] >= _SLIGHT] or falling[:1]
    last = len(worth) - 1
    chosen = sorted({0, last // 2, last}) if last >= _ROWS else range(last + 1)
    return [worth[at][1:] for at in chosen]


def _has_errors(all_candidates: Sequence[RankCandidates]) -> bool:
    return all(candidates.errors is not None for candidates in all_candidates)


def _errors(candidates: RankCandidates) -> list[float]:
    """At each rank, no more than at a cheaper one."""
    return [*itertools.accumulate(candidates.errors or (), min)]


def _measured(all_candidates: Sequence[RankCandidates], losses: Mapping[Plan, float], least: float) -> list[Option]:
    found = []
    for candidates in all_candidates:
        rows = [losses[single_layer_plan(candidates, at)] for at in range(len(candidates.ranks))]
        found += [Option.of(candidates, at, loss) for at, loss in enumerate(itertools.accumulate(rows, min))]
    return found


def _interpolated(all_candidates: Sequence[RankCandidates], losses: Mapping[Plan, float], least: float) -> list[Option]:
    ranked = [(candidates, at, error) for candidates in all_candidates for at, error in enumerate(_errors(candidates))]
    tried = [
        (error, losses[plan])
        for candidates, at, error in ranked
        if (plan := single_layer_plan(candidates, at)) in losses
    ]
    curve = LossCurve.of(tried, least)
    return [Option.of(candidates, at, curve(error)) for candidates, at, error in ranked]


def _beats(other: Option, option: Option) -> bool:
    """Whether it saves no less and harms less."""
    no_less = other.macs >= option.macs and other.params >= option.params and other.latency >= option.latency
    return no_less and other.loss < option.loss
