"""Rank search by accuracy drop (Phan et al., ECCV 2020, section 3).

For each layer, and each format that it may take, bisection finds the smallest rank whose drop, *after fine-tuning
that single layer*, stays within a threshold EPS. All other layers are dense meanwhile. The cheapest format wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan, Trial
from polyadic.search.space import RankCandidates, SearchSpace, single_layer_plan
from polyadic.search.strategy import RankSearch, verdicts


@final
@dataclass(frozen=True)
class Bisection(RankSearch):
    """Bisection on the candidate ranks of each layer.

    Attributes:
        resolution: stop when the two ranks in question differ by less than this share of what the dense layer costs.
    """

    name = "bisection"
    tunes_layers = True  # the drop counts after fine-tuning

    resolution: float = 0.04

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The middle rank of the first candidates that are not decided yet, of a layer that nobody is trying."""
        known = verdicts(space, trials)
        busy = {choice.layer for plan in running for choice in plan.choices}
        for candidates in space.candidates:
            if candidates.layer in busy:
                continue
            fails, passes = self._bracket(candidates, space, known)
            if not self._decided(candidates, space, fails, passes):
                return single_layer_plan(candidates, (fails + passes) // 2)
        return None

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """Every layer at the cheapest rank that passed, in whichever format; dense where none did."""
        known = verdicts(space, trials)
        best: dict[str, tuple[float, Plan]] = {}
        for candidates in space.candidates:
            _, passes = self._bracket(candidates, space, known)
            if passes < len(candidates.ranks) and known.get(single_layer_plan(candidates, passes)):
                candidate = (candidates.costs(space.measure)[passes], single_layer_plan(candidates, passes))
                if candidates.layer not in best or candidate[0] < best[candidates.layer][0]:
                    best[candidates.layer] = candidate
        return Plan(tuple(choice for _, plan in best.values() for choice in plan.choices))

    def expected_trials(self, space: SearchSpace) -> int:
        """The bisection steps of all layers and formats."""
        return sum(
            max(1, math.ceil(math.log2(max(2.0, min(len(candidates.ranks), 1.0 / self.resolution)))))
            for candidates in space.candidates
        )

    def _bracket(self, candidates: RankCandidates, space: SearchSpace, known: dict[Plan, bool]) -> tuple[int, int]:
        """The highest rank that failed (-1: none) and the lowest above it that passed.

        Ranks that cost no less than what another format of the layer already reached count as passed: not worth a
        trial.
        """
        fails, passes = -1, self._worthwhile(candidates, space, known)
        while passes - fails > 1:
            middle = (fails + passes) // 2
            passed = known.get(single_layer_plan(candidates, middle))
            if passed is None or self._decided(candidates, space, fails, passes):
                break
            if passed:
                passes = middle
            else:
                fails = middle
        return fails, passes

    def _decided(self, candidates: RankCandidates, space: SearchSpace, fails: int, passes: int) -> bool:
        if passes - fails <= 1:
            return True
        costs, dense = candidates.costs(space.measure), candidates.dense_cost(space.measure)
        # while nothing has passed, the answer may still be "dense"
        upper = dense if passes == len(candidates.ranks) else costs[passes]
        lower = costs[fails] if fails >= 0 else 0
        return upper - lower < self.resolution * dense

    def _worthwhile(self, candidates: RankCandidates, space: SearchSpace, known: dict[Plan, bool]) -> int:
        """How many ranks are cheaper than what earlier formats of the same layer reached."""
        measure = space.measure
        reached = candidates.dense_cost(measure)
        for earlier in space.candidates:
            if earlier == candidates:
                break
            if earlier.layer == candidates.layer:
                _, passes = self._bracket(earlier, space, known)
                if passes < len(earlier.ranks) and known.get(single_layer_plan(earlier, passes)):
                    reached = min(reached, earlier.costs(measure)[passes])
        return sum(cost < reached for cost in candidates.costs(measure))
