"""What each layer alone costs and does: one row per format and rank, measured once and used for any budget.

Every rank on every ladder is tried with all other layers dense. Noise and local minima of decompositions can make a
dearer rank look worse than a cheaper one; so the harm of a rank is the least that it or a cheaper one did.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from polyadic.schema import Measure, Plan
from polyadic.search.ladder import Ladder
from polyadic.search.rank_search import Problem, Trial, single


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

    ladder: Ladder | None
    position: int
    macs: int
    params: int
    harm: float
    latency: float = 0.0

    @staticmethod
    def of(ladder: Ladder, at: int, harm: float) -> Option:
        """The rank at a position of a ladder."""
        macs, params = (int(ladder.saved(at, measure)) for measure in ("macs", "params"))
        return Option(ladder, at, macs, params, harm, ladder.saved(at, "latency"))

    def saved(self, measure: Measure) -> float:
        """What it saves against the dense layer."""
        return {"macs": self.macs, "params": self.params, "latency": self.latency}[measure]


DENSE = Option(None, -1, 0, 0, 0.0)
"""What a layer is that stays as it is."""


def probes(problem: Problem) -> list[Plan]:
    """The plans that fill the table, layer after layer."""
    return [single(ladder, at) for ladder in problem.ladders for at in range(len(ladder.ranks))]


def missing_probe(problem: Problem, trials: Sequence[Trial], running: Sequence[Plan]) -> Plan | None:
    """The first plan of the table that nobody has tried or is trying."""
    known = {trial.plan for trial in trials if trial.joint} | set(running)
    return next((plan for plan in probes(problem) if plan not in known), None)


def is_complete(problem: Problem, trials: Sequence[Trial]) -> bool:
    """Whether every row is there."""
    return missing_probe(problem, trials, ()) is None


def options_of(problem: Problem, trials: Sequence[Trial]) -> dict[str, list[Option]]:
    """For each layer its options, the dense one first, then by falling cost; those that another beats are left out."""
    harms = {trial.plan: max(trial.harm, 0.0) for trial in trials if trial.joint}
    table = {}
    for layer, ladders in problem.of_layer().items():
        found = []
        for ladder in ladders:
            measured = [harms[single(ladder, at)] for at in range(len(ladder.ranks))]
            falling = itertools.accumulate(measured, min)
            for at, harm in enumerate(falling):
                found.append(Option.of(ladder, at, harm))
        rising = [DENSE, *sorted(found, key=lambda option: (option.saved(problem.measure), option.harm))]
        table[layer] = [option for option in rising if not any(_beats(other, option) for other in rising)]
    return table


def _beats(other: Option, option: Option) -> bool:
    """Whether it saves no less and harms less."""
    no_less = other.macs >= option.macs and other.params >= option.params and other.latency >= option.latency
    return no_less and other.harm < option.harm
