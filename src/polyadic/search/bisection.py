"""Rank search by accuracy drop (Phan et al., ECCV 2020, section 3).

For each layer, and each format that it may take, bisection finds the smallest rank whose drop, *after fine-tuning
that single layer*, stays within a threshold EPS. All other layers are dense meanwhile. The cheapest format wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from polyadic.schema import Plan
from polyadic.search.ladder import Ladder
from polyadic.search.rank_search import Problem, RankSearch, Trial, single, verdicts


@final
@dataclass(frozen=True)
class Bisection(RankSearch):
    """Bisection on the ladder of each layer.

    Attributes:
        resolution: stop when the two ranks in question differ by less than this share of what the dense layer costs.
    """

    resolution: float = 0.04

    @property
    def tunes_layers(self) -> bool:
        """Yes: the drop counts after fine-tuning."""
        return True

    def propose(self, problem: Problem, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The middle rank of the first ladder that is not decided yet, of a layer at which nobody is."""
        known = verdicts(problem, trials)
        busy = {choice.layer for plan in running for choice in plan.choices}
        for ladder in problem.ladders:
            if ladder.layer in busy:
                continue
            fails, passes = self._bracket(ladder, problem, known)
            if not self._decided(ladder, problem, fails, passes):
                return single(ladder, (fails + passes) // 2)
        return None

    def conclude(self, problem: Problem, trials: Sequence[Trial]) -> Plan:
        """Every layer at the cheapest rank that passed, in whichever format; dense where none did."""
        known = verdicts(problem, trials)
        best: dict[str, tuple[float, Plan]] = {}
        for ladder in problem.ladders:
            _, passes = self._bracket(ladder, problem, known)
            if passes < len(ladder.ranks) and known.get(single(ladder, passes)):
                candidate = (ladder.costs(problem.measure)[passes], single(ladder, passes))
                if ladder.layer not in best or candidate[0] < best[ladder.layer][0]:
                    best[ladder.layer] = candidate
        return Plan(tuple(choice for _, plan in best.values() for choice in plan.choices))

    def expected_trials(self, problem: Problem) -> int:
        """The bisection steps of all ladders."""
        return sum(
            max(1, math.ceil(math.log2(max(2.0, min(len(ladder.ranks), 1.0 / self.resolution)))))
            for ladder in problem.ladders
        )

    def _bracket(self, ladder: Ladder, problem: Problem, known: dict[Plan, bool]) -> tuple[int, int]:
        """The highest rank on the ladder that failed (-1: none) and the lowest above it that passed.

        Ranks that cost no less than what another format of the layer already reached count as passed: not worth a
        trial.
        """
        fails, passes = -1, self._worthwhile(ladder, problem, known)
        while passes - fails > 1:
            middle = (fails + passes) // 2
            passed = known.get(single(ladder, middle))
            if passed is None or self._decided(ladder, problem, fails, passes):
                break
            if passed:
                passes = middle
            else:
                fails = middle
        return fails, passes

    def _decided(self, ladder: Ladder, problem: Problem, fails: int, passes: int) -> bool:
        if passes - fails <= 1:
            return True
        costs, dense = ladder.costs(problem.measure), ladder.dense_cost(problem.measure)
        # while nothing has passed, the answer may still be "dense"
        upper = dense if passes == len(ladder.ranks) else costs[passes]
        lower = costs[fails] if fails >= 0 else 0
        return upper - lower < self.resolution * dense

    def _worthwhile(self, ladder: Ladder, problem: Problem, known: dict[Plan, bool]) -> int:
        """How many ranks of the ladder are cheaper than what earlier formats of the same layer reached."""
        measure = problem.measure
        reached = ladder.dense_cost(measure)
        for earlier in problem.ladders:
            if earlier == ladder:
                break
            if earlier.layer == ladder.layer:
                _, passes = self._bracket(earlier, problem, known)
                if passes < len(earlier.ranks) and known.get(single(earlier, passes)):
                    reached = min(reached, earlier.costs(measure)[passes])
        return sum(cost < reached for cost in ladder.costs(measure))
