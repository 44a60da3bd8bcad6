"""Ladders in milliseconds: which ranks are faster than the layer itself, and which of those an engine likes.

Of every ladder a few ranks are measured and those between them interpolated. A rank is offered if its chain is faster
than the dense layer, by more than the margin and the noise, and faster than every larger rank: of two ranks that take
equally long, the larger one loses less.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from polyadic.engines import LatencyModel, Measured, interpolate_time
from polyadic.errors import BudgetError
from polyadic.formats import format_named
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.pipeline.space import Request
from polyadic.schema import Cost, LayerSite, Stage
from polyadic.search import RankCandidates

Standing = Mapping[str, tuple[Stage, ...]]
"""Chains that stand in the place of layers already, by the layers' names."""

MARGIN = 0.03  # of the dense layer's time; less is not worth a loss of accuracy
SAME = 0.01  # times that are nearer than this are taken for equal


@dataclass(frozen=True)
class TimedLadders:
    """Ladders that hold times.

    Attributes:
        ladders: with the ranks that are left; those with none are left out.
        refused: why a layer has none at all, by its name.
        measured: how many ranks were measured, the others being interpolated.
    """

    all_candidates: tuple[RankCandidates, ...]
    refused: dict[str, str]
    measured: int


def timed(
    all_candidates: Sequence[RankCandidates],
    sites: Iterable[LayerSite],
    model: LatencyModel,
    points: int,
    *,
    faster_only: bool = True,
    show: OnProgress = lambda _: None,
    standing: Standing | None = None,
) -> TimedLadders:
    """Measure ``points`` ranks of each ladder; then see the module.

    Args:
        ladders: as formats give them.
        sites: the layers.
        model: takes the times.
        points: ranks of each ladder that are measured, its ends included.
        faster_only: leave out ranks that are not faster than the dense layer and every larger rank; otherwise all stay.
        show: called for each ladder.
        standing: what layers have been replaced by; such a layer is timed as that chain.

    Raises:
        EngineError: the engine does not run a layer.
        StorageError: the times cannot be kept.
    """
    known = {site.name: site for site in sites}
    found: list[tuple[RankCandidates, dict[int, Measured]]] = []
    for done, candidates in enumerate(all_candidates, 1):
        now = (standing or {}).get(candidates.layer)
        found.append((candidates, _measured(known[candidates.layer], candidates, model, points, now)))
        show(Progress("time", done, len(all_candidates), f"{candidates.layer} {candidates.format}"))
    dense = {
        layer: statistics.median(
            one.dense for candidates, rows in found if candidates.layer == layer for one in rows.values()
        )
        for layer in known
        if any(candidates.layer == layer for candidates, _ in found)
    }
    kept = [_kept(candidates, rows, dense[candidates.layer], faster_only=faster_only) for candidates, rows in found]
    left = tuple(candidates for candidates in kept if candidates.ranks)
    served = {candidates.layer for candidates in left}
    where = f"{model.engine.name} at batch {model.conditions.batch}"
    refused = {layer: f"no block of the formats was faster on {where}" for layer in dense if layer not in served}
    return TimedLadders(left, refused, sum(len(rows) for _, rows in found))


def on_engine(
    all_candidates: tuple[RankCandidates, ...],
    sites: Iterable[LayerSite],
    options: CompressOptions,
    request: Request,
    show: OnProgress,
    standing: Standing | None = None,
) -> tuple[tuple[RankCandidates, ...], dict[str, str]]:
    """The ladders with times, and the layers that have none left; as they are where no engine was named.

    Ranks of a plan that the user gave are measured, and none is left out. ``standing`` as in :func:`timed`.

    Raises:
        BudgetError: no layer can be made faster.
        EngineError: the engine does not run a layer.
    """
    if options.latency is None:
        return all_candidates, {}
    faster_only = options.require_speedup and request.plan is None
    found = timed(
        all_candidates,
        sites,
        options.latency,
        options.candidates_per_layer,
        faster_only=faster_only,
        show=show,
        standing=standing,
    )
    if not found.all_candidates:
        fastest = "the network that the earlier rounds have left" if standing else "the dense network"
        raise BudgetError(
            f"no layer can be made faster by {', '.join(request.formats)} on {options.latency}: {fastest} is the "
            "fastest there; allow other formats, or --no-require-speedup"
        )
    return found.all_candidates, found.refused


def timed_cost(cost: Cost, dense: nn.Module, example: Tensor, options: CompressOptions) -> Cost:
    """``cost`` with the latency of ``dense``; as it is where no engine was named.

    Raises:
        EngineError: the engine cannot be used, or does not run the network.
    """
    if options.latency is None:
        return cost
    options.latency.check()
    return replace(cost, latency=options.latency.network(dense, example))


def _measured(
    site: LayerSite, candidates: RankCandidates, model: LatencyModel, points: int, standing: tuple[Stage, ...] | None
) -> dict[int, Measured]:
    """Times of some positions of a ladder, over all calls of the layer in a pass, against the layer as it is now."""
    if site.spec is None:
        raise ValueError(f"layers with ladders have a geometry; {site.name} has none")
    ranks, fmt = candidates.thinned(points).ranks, format_named(candidates.format)
    positions = [candidates.ranks.index(rank) for rank in ranks]
    chains = [fmt.stages(site.spec, rank) for rank in ranks]
    now = standing or (site.spec,)
    calls = [(count, model.blocks(now, chains, size)) for size, count in Counter(site.input_sizes).items()]
    return {
        at: Measured(
            sum(count * rows[number].dense for count, rows in calls),
            sum(count * rows[number].chain for count, rows in calls),
            sum(count * rows[number].noise for count, rows in calls),
        )
        for number, at in enumerate(positions)
    }


def _kept(candidates: RankCandidates, rows: dict[int, Measured], dense: float, *, faster_only: bool) -> RankCandidates:
    """The ladder with times, and without the ranks that are not worth it.

    What is measured best is the difference to the dense layer, which ran in turns; so times are dense less difference.
    """
    times = {candidates.macs[at]: dense - (one.dense - one.chain) for at, one in rows.items()}
    noises = {candidates.macs[at]: one.noise for at, one in rows.items()}
    least = 1e-3 * dense  # a difference with noise in it may exceed the layer
    every = tuple(max(interpolate_time(times, macs), least) for macs in candidates.macs)
    measured = tuple(at in rows for at in range(len(candidates.ranks)))
    with_times = replace(candidates, times=every, measured=measured, dense_time=dense)
    if not faster_only:
        return with_times
    fastest, kept = math.inf, []
    for at in reversed(range(len(candidates.ranks))):
        enough = max(MARGIN * dense, interpolate_time(noises, candidates.macs[at]))
        if dense - every[at] > enough and every[at] < (1 - SAME) * fastest:
            fastest = every[at]
            kept.append(at)
    return with_times.only(kept)
