"""What a search chooses from: the candidate ranks of every layer, and what is asked of the whole network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from polyadic.schema import Budget, Choice, Cost, Measure, Plan, Rank


@dataclass(frozen=True)
class RankCandidates:
    """The ranks of one layer in one format that are to choose from, the cheapest first.

    Attributes:
        layer: name of the layer.
        format: name of the format.
        ranks: cheapest first; each is cheaper than the dense layer.
        macs: multiply-accumulates of the chain at each rank.
        dense_macs: those of the dense layer.
        params: numbers of the chain at each rank; none where nothing but MACs counts.
        dense_params: those of the dense layer.
        errors: relative error of the kernel at each rank, in the norm of its inputs where there are images; for
            strategies that want them (:attr:`RankSearch.wants_errors`).
        suggested: position of the rank that EVBMF suggests; for strategies that want it.
        times: milliseconds that the chain takes of a pass at each rank, each more than the one before; none where no
            engine was named.
        measured: whether each of them was measured; it was interpolated otherwise.
        dense_time: milliseconds of the dense layer.
    """

    layer: str
    format: str
    ranks: tuple[Rank, ...]
    macs: tuple[int, ...]
    dense_macs: int
    params: tuple[int, ...] = ()
    dense_params: int = 0
    errors: tuple[float, ...] | None = None
    suggested: int | None = None
    times: tuple[float, ...] = ()
    measured: tuple[bool, ...] = ()
    dense_time: float = 0.0

    def position(self, choice: Choice) -> int:
        """Which of the ranks ``choice`` has."""
        return self.ranks.index(choice.rank)

    def costs(self, measure: Measure) -> tuple[float, ...]:
        """What the chain costs at each rank; nothing at all where that is not known."""
        return {"macs": self.macs, "params": self.params, "latency": self.times}[measure]

    def dense_cost(self, measure: Measure) -> float:
        """What the dense layer costs."""
        return {"macs": self.dense_macs, "params": self.dense_params, "latency": self.dense_time}[measure]

    def saved(self, at: int, measure: Measure) -> float:
        """What the rank at a position saves; 0 where that is not known."""
        costs = self.costs(measure)
        return self.dense_cost(measure) - costs[at] if costs else 0

    def within(self, most: float, measure: Measure = "macs") -> int:
        """The highest position that takes at most ``most``; the first one where none does."""
        return max((at for at, cost in enumerate(self.costs(measure)) if cost <= most), default=0)

    def only(self, positions: Sequence[int]) -> RankCandidates:
        """The same candidates with some of the ranks only; a suggestion that is not among them is dropped."""
        kept = sorted(set(positions))
        return replace(
            self,
            ranks=tuple(self.ranks[at] for at in kept),
            macs=tuple(self.macs[at] for at in kept),
            params=tuple(self.params[at] for at in kept) if self.params else (),
            errors=tuple(self.errors[at] for at in kept) if self.errors is not None else None,
            suggested=kept.index(self.suggested) if self.suggested in kept else None,
            times=tuple(self.times[at] for at in kept) if self.times else (),
            measured=tuple(self.measured[at] for at in kept) if self.measured else (),
        )

    def thinned(self, count: int) -> RankCandidates:
        """At most ``count`` ranks between the cheapest and the dearest, closer together where they are cheap.

        Evenly in the square root of the MACs: a rank more changes little where there are many.
        """
        low, high = self.macs[0] ** 0.5, self.macs[-1] ** 0.5
        steps = max(count - 1, 1)
        return self.only([self.within((low + (high - low) * n / steps) ** 2 * (1 + 1e-9)) for n in range(count)])


Candidate = tuple[RankCandidates, int]
"""Candidates, and a position among them: one rank of one layer in one format."""


@dataclass(frozen=True)
class SearchSpace:
    """The candidates of every layer, in the order of the network, and what is asked.

    With a ``budget`` the best network within it is looked for; without one, the cheapest whose drop before fine-tuning
    is ``allowed``. Cheapest means fastest where the candidates hold times, and of fewest MACs otherwise.

    Attributes:
        candidates: one per layer and format.
        threshold: EPS of Phan et al. 2020, what one layer may lose after its own fine-tuning.
        dense: cost of the dense network.
        budget: what the compressed network may cost.
        allowed: what the whole network may lose before fine-tuning.
        number_bytes: of each number that a plan saves.
        refused: why a layer that formats serve has no candidates, by its name.
        unit: of ``threshold`` and ``allowed``, and of every drop.
    """

    candidates: tuple[RankCandidates, ...]
    threshold: float = 0.0
    dense: Cost = field(default_factory=lambda: Cost(0, 0, 0))
    budget: Budget | None = None
    allowed: float = math.inf
    number_bytes: int = 4
    refused: Mapping[str, str] = field(default_factory=dict)
    unit: str = "points"

    def in_unit(self, drop: float) -> str:
        """A drop as it is written."""
        return f"{drop:.4g} {self.unit}".rstrip()

    def candidates_for(self, choice: Choice) -> RankCandidates:
        """The candidates that ``choice`` is one of: those of its layer in its format."""
        return self._by_name[choice.layer, choice.format]

    def by_layer(self) -> dict[str, tuple[RankCandidates, ...]]:
        """The candidates of each layer, one per format, in the order of the network."""
        return self._by_layer

    def cost(self, plan: Plan) -> Cost:
        """What the network costs with ``plan``, from integers alone."""
        chosen = [(self.candidates_for(choice), choice) for choice in plan.choices]
        taken = [(candidates, candidates.position(choice)) for candidates, choice in chosen]
        macs, params, latency = (
            sum(candidates.saved(at, measure) for candidates, at in taken) for measure in ("macs", "params", "latency")
        )
        return self.cost_after(int(macs), int(params), latency)

    def cost_after(self, saved_macs: int, saved_params: int, saved_latency: float = 0.0) -> Cost:
        """What the network costs once so much is saved."""
        dense = self.dense
        return Cost(
            dense.params - saved_params,
            dense.macs - saved_macs,
            dense.bytes - saved_params * self.number_bytes,
            None if dense.latency is None else dense.latency - saved_latency,
        )

    @property
    def measure(self) -> Measure:
        """What cost means where it has to be one number: the first of latency, MACs and parameters that is limited.

        Without a budget it is latency where the candidates hold times, and MACs otherwise.
        """
        timed = self.dense.latency is not None and all(candidates.times for candidates in self.candidates)
        limits = self.budget.limits if self.budget is not None else {"latency": 0.0, "macs": 0.0}
        if timed and "latency" in limits:
            return "latency"
        counted = "macs" in limits or not limits or not all(candidates.params for candidates in self.candidates)
        return "macs" if counted else "params"

    def figure(self, plan: Plan) -> float:
        """What the network costs with ``plan``, by :attr:`measure`."""
        return float(getattr(self.cost(plan), self.measure))

    @property
    def dense_figure(self) -> float:
        """What the dense network costs, by :attr:`measure`; above 0, to be divided by."""
        cost = float(getattr(self.dense, self.measure))
        return cost if cost > 0 else 1.0

    def limited(self, share: float) -> SearchSpace:
        """The same layers under a budget: that share of the dense network, by :attr:`measure`."""
        limit = share * float(getattr(self.dense, self.measure))
        if self.measure == "latency":
            return replace(self, budget=Budget(latency=limit))
        return replace(self, budget=Budget(**{self.measure: max(int(limit), 1)}))

    def admits(self, plan: Plan) -> bool:
        """Whether ``plan`` keeps the budget; True where there is none."""
        return self.budget is None or self.budget.admits(self.cost(plan))

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], RankCandidates]:
        return {(candidates.layer, candidates.format): candidates for candidates in self.candidates}

    @cached_property
    def _by_layer(self) -> dict[str, tuple[RankCandidates, ...]]:
        names = dict.fromkeys(candidates.layer for candidates in self.candidates)
        return {name: tuple(one for one in self.candidates if one.layer == name) for name in names}


def single_layer_plan(candidates: RankCandidates, position: int) -> Plan:
    """The plan that replaces one layer only."""
    return plan_of([(candidates, position)])


def plan_of(chosen: Iterable[Candidate]) -> Plan:
    """The plan of candidates and positions among them."""
    return Plan(
        tuple(
            Choice(candidates.layer, candidates.format, candidates.ranks[position]) for candidates, position in chosen
        )
    )


def cheapest_plan(space: SearchSpace) -> Plan:
    """Every layer in the format and at the rank that cost least, by :attr:`SearchSpace.measure`."""
    measure = space.measure
    return plan_of(
        min(
            ((candidates, at) for candidates in formats for at in range(len(candidates.ranks))),
            key=lambda option: option[0].costs(measure)[option[1]],
        )
        for formats in space.by_layer().values()
    )


def relax_plan(plan: Plan, candidates: Sequence[RankCandidates], share: float, measure: Measure = "macs") -> Plan:
    """``plan`` with every layer at a higher rank: ``share`` (0 to 1) of its distance to the dense layer is given back.

    The distance is one in cost. For layers that are harmless alone and lose too much together. A layer that is near
    dense already stays below it, at the highest of its ranks.
    """
    by_name = {(one.layer, one.format): one for one in candidates}
    choices = []
    for choice in plan.choices:
        known = by_name[choice.layer, choice.format]
        cost = known.costs(measure)[known.position(choice)]
        position = known.within(cost + share * (known.dense_cost(measure) - cost), measure)
        choices.append(replace(choice, rank=known.ranks[position]))
    return Plan(tuple(choices))


def round_rank(rank: Rank, multiple: int, largest: Rank) -> Rank:
    """``rank`` with every part at the nearest multiple, 0 excluded: multiples of 8, say, fill the registers.

    A part whose ``largest`` value is below the multiple has none and stays; so does one that is at its largest value.
    """
    return tuple(
        part if part == most or most < multiple else min(max(round(part / multiple), 1), most // multiple) * multiple
        for part, most in zip(rank, largest, strict=True)
    )
