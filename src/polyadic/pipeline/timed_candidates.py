"""Candidates in milliseconds: which ranks are faster than the layer itself, and which of those an engine likes.

Of every layer and format a few ranks are measured and those between them interpolated. A rank is offered if its chain
is faster than the dense layer, by more than the margin and the noise, and faster than every larger rank: of two ranks
that take equally long, the larger one loses less.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from polyadic.engines import LatencyModel, Measured, interpolate_time
from polyadic.errors import BudgetError
from polyadic.formats import format_named
from polyadic.layers import Inputs
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.pipeline.target import Target
from polyadic.schema import Cost, LayerSite, Stage
from polyadic.search import RankCandidates
from polyadic.surgery import network_cost

StandingChains = Mapping[str, tuple[Stage, ...]]
"""Chains that stand in the place of layers already, by the layers' names."""

MARGIN = 0.03  # of the dense layer's time; less is not worth a loss of accuracy
SAME = 0.01  # times that are nearer than this are taken for equal


def time_candidates(
    all_candidates: tuple[RankCandidates, ...],
    layers: Iterable[LayerSite],
    target: Target,
    options: CompressOptions,
    show: OnProgress,
    standing: StandingChains | None = None,
) -> tuple[tuple[RankCandidates, ...], dict[str, str]]:
    """The candidates with times, and why a layer has none left, by its name; as they are where no engine was named.

    ``options.candidates_per_layer`` ranks of each layer and format are measured, the cheapest and the dearest included.
    Ranks that are not faster than the layer are left out, unless the user asked for them: by a plan of their own, or by
    ``require_speedup=False``.

    Args:
        all_candidates: as formats give them.
        layers: of the network.
        target: what is asked.
        options: where the network is to be fast.
        show: called for each layer and format.
        standing: what layers have been replaced by; such a layer is timed as that chain.

    Raises:
        BudgetError: no layer can be made faster.
        EngineError: the engine does not run a layer.
        StorageError: the times cannot be kept.
    """
    model = options.latency
    if model is None:
        return all_candidates, {}
    known, found = {site.name: site for site in layers}, []
    for done, candidates in enumerate(all_candidates, 1):
        now = (standing or {}).get(candidates.layer)
        rows = _measure(known[candidates.layer], candidates, model, options.candidates_per_layer, now)
        found.append((candidates, rows))
        show(Progress("time", done, len(all_candidates), f"{candidates.layer} {candidates.format}"))
    times: dict[str, list[float]] = {}
    for candidates, rows in found:
        times.setdefault(candidates.layer, []).extend(one.dense for one in rows.values())
    dense = {layer: statistics.median(measured) for layer, measured in times.items()}
    faster_only = options.require_speedup and target.plan is None
    kept = [_with_times(candidates, rows, dense[candidates.layer], faster_only) for candidates, rows in found]
    left = tuple(candidates for candidates in kept if candidates.ranks)
    if not left:
        fastest = "the network that the earlier rounds have left" if standing else "the dense network"
        raise BudgetError(
            f"no layer can be made faster by {', '.join(target.formats)} on {model}: {fastest} is the fastest there; "
            "allow other formats, or --no-require-speedup"
        )
    served = {candidates.layer for candidates in left}
    where = f"{model.engine.name} at batch {model.conditions.batch}"
    refused = {
        site: f"no block of the formats was faster on {where}" for site in known if site in dense.keys() - served
    }
    return left, refused


def measure_cost(network: nn.Module, example: Inputs, options: CompressOptions) -> Cost:
    """Parameters, MACs and bytes of ``network``, and its latency where an engine was named.

    Raises:
        EngineError: the engine cannot be used, or does not run the network.
    """
    cost = network_cost(network, example)
    if options.latency is None:
        return cost
    options.latency.check()
    return replace(cost, latency=options.latency.time_network(network, example))


def _measure(
    site: LayerSite, candidates: RankCandidates, model: LatencyModel, points: int, standing: tuple[Stage, ...] | None
) -> dict[int, Measured]:
    """Times at some of the ranks, over all calls of the layer in a pass, against the layer as it is now."""
    if site.spec is None:
        raise ValueError(f"layers with candidates have a geometry; {site.name} has none")
    ranks, fmt = candidates.thinned(points).ranks, format_named(candidates.format)
    positions = [candidates.ranks.index(rank) for rank in ranks]
    chains = [fmt.stages(site.spec, rank) for rank in ranks]
    now = standing or (site.spec,)
    calls = [(count, model.time_blocks(now, chains, size)) for size, count in Counter(site.input_sizes).items()]
    return {
        at: Measured(
            sum(count * rows[number].dense for count, rows in calls),
            sum(count * rows[number].chain for count, rows in calls),
            sum(count * rows[number].noise for count, rows in calls),
        )
        for number, at in enumerate(positions)
    }


def _with_times(
    candidates: RankCandidates, rows: dict[int, Measured], dense: float, faster_only: bool
) -> RankCandidates:
    """The candidates with times, and without the ranks that are not worth it.

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
