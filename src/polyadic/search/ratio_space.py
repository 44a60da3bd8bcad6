"""Plans as points: the share of its cost that every layer keeps, whatever its formats.

Where several formats serve a layer, a share stands for the one with the least error among those that cost no more. So
there is one number for each layer, and a search over numbers can do without knowing of formats.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from polyadic.schema import Plan
from polyadic.search.loss_table import DENSE, Option, options_cost, options_plan
from polyadic.search.space import RankCandidates, SearchSpace

_HALVINGS = 60  # of the logarithm of the common factor, between 1e-6 and 1e6


@dataclass(frozen=True)
class RatioSpace:
    """The layers of a search space, each with its options, the cheapest first and the dense layer last.

    Attributes:
        space: what is asked.
        options: per layer; their loss is the relative error of the kernel.
    """

    space: SearchSpace
    options: dict[str, list[Option]]

    @staticmethod
    def of(space: SearchSpace) -> RatioSpace:
        """With the candidates of the space: all formats, or the first one of a layer whose errors are not known."""
        ratios = RatioSpace(space, {})
        for layer, formats in space.by_layer().items():
            known = formats if all(candidates.errors is not None for candidates in formats) else formats[:1]
            every = [option for candidates in known for option in _options(candidates)] + [DENSE]
            rising = sorted(every, key=lambda option: (ratios.cost(layer, option), option.loss))
            least = itertools.accumulate((option.loss for option in rising), min)
            ratios.options[layer] = [
                option
                for option, best in zip(rising, least, strict=True)
                if option.loss <= best and (option.candidates is not None or option is rising[-1])
            ]
        return ratios

    def cost(self, layer: str, option: Option) -> float:
        """What a layer costs in an option, by :attr:`SearchSpace.measure`."""
        candidates, measure = self.space.by_layer()[layer][0], self.space.measure
        return candidates.dense_cost(measure) - option.saved(measure)

    def shares(self, plan: Plan) -> list[float]:
        """What each layer keeps of its cost, above 0; 1 where it stays dense."""
        kept, measure = [], self.space.measure
        for layer in self.space.by_layer():
            choice = plan.of(layer)
            if choice is None:
                kept.append(1.0)
                continue
            candidates = self.space.candidates_for(choice)
            cost, dense = candidates.costs(measure)[candidates.position(choice)], candidates.dense_cost(measure)
            kept.append(max(cost, 1e-6 * dense) / dense if dense > 0 else 1.0)
        return kept

    def plan(self, shares: Sequence[float]) -> Plan | None:
        """Every layer in its dearest option within its share; under a budget on the edge of that.

        There all shares are multiplied by one factor. What rounding leaves of the budget goes to the layers whose next
        option is nearest to their share. None where not even the cheapest options keep the budget.
        """
        if self.space.budget is None:
            return self._plan(self._within(shares, 1.0))
        low, high = -6.0, 6.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._admits(self._within(shares, 10**middle)) else (low, middle)
        at = self._within(shares, 10**low)
        if not self._admits(at):
            return None
        return self._plan(self._filled(at, [share * 10**low for share in shares]))

    def _within(self, shares: Sequence[float], factor: float) -> list[int]:
        found = []
        for share, (layer, options) in zip(shares, self.options.items(), strict=True):
            most = share * factor * self.cost(layer, options[-1]) * (1 + 1e-9)
            found.append(max((at for at, option in enumerate(options) if self.cost(layer, option) <= most), default=0))
        return found

    def _filled(self, at: Sequence[int], shares: Sequence[float]) -> list[int]:
        at, layers = list(at), list(self.options)

        def next_step(number: int) -> tuple[float, int]:
            layer, options = layers[number], self.options[layers[number]]
            dense = self.cost(layer, options[-1]) or 1.0
            return self.cost(layer, options[at[number] + 1]) / dense / shares[number], number

        waiting = [next_step(number) for number in range(len(at)) if at[number] + 1 < len(self.options[layers[number]])]
        heapq.heapify(waiting)
        while waiting:
            _, number = heapq.heappop(waiting)
            at[number] += 1
            if not self._admits(at):
                at[number] -= 1  # nor would a further step fit, for it costs more
            elif at[number] + 1 < len(self.options[layers[number]]):
                heapq.heappush(waiting, next_step(number))
        return at

    def _admits(self, at: Sequence[int]) -> bool:
        budget = self.space.budget
        return budget is None or budget.admits(options_cost(self.space, self._chosen(at)))

    def _plan(self, at: Sequence[int]) -> Plan:
        return options_plan(self._chosen(at))

    def _chosen(self, at: Sequence[int]) -> list[Option]:
        return [options[position] for options, position in zip(self.options.values(), at, strict=True)]


def _options(candidates: RankCandidates) -> list[Option]:
    """Errors fall as the rank rises, as far as they are known; noise of a solver must not let a rank drop out."""
    errors = candidates.errors
    if errors is None:
        errors = tuple(1.0 / (at + 2) for at in range(len(candidates.ranks)))
    falling = itertools.accumulate(errors, min)
    return [Option.of(candidates, at, error) for at, error in enumerate(falling)]
