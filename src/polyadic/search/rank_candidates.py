"""The ranks of one layer in one format that are to choose from, and what each of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyadic.schema import Choice, Measure, Plan, Rank


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
