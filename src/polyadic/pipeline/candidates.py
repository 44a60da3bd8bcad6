"""What there is to choose from: the ranks of every layer in every format, and what a search wants to know of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from torch import nn

from polyadic.algebra import kernel_to_order3
from polyadic.decomposition import evbmf_tucker2_ranks, support_core
from polyadic.errors import BudgetError, LayerError
from polyadic.formats import format_named
from polyadic.pipeline.apply import Decomposer
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.schema import Choice, LayerSite, Plan, chain_params
from polyadic.search import RankCandidates, RankSearch, anchors, round_rank
from polyadic.surgery import check_patterns, layer_at, matches_any, plan_stages

_FINER = 3  # times as many ranks where a rank costs neither a trial nor a decomposition
_SMALL = 0.1  # relative errors below it are not looked at more closely: decompositions of high ranks are dear
_ROUNDING = 1e-6  # relative errors below it


def find_candidates(
    dense: nn.Module, layers: tuple[LayerSite, ...], formats: Sequence[str], options: CompressOptions
) -> tuple[RankCandidates, ...]:
    """The ranks of every candidate in every format that are cheaper than the layer itself.

    Raises:
        BudgetError: there are none.
        LayerError: a pattern of what is to stay dense matches no layer.
    """
    check_patterns(options.exclude, [site.name for site in layers], "exclude")
    all_candidates = []
    for site in layers:
        if site.reason is not None or site.spec is None or matches_any(site.name, options.exclude):
            continue
        layer, weight, spec = layer_at(dense, site.name)
        params = sum(parameter.numel() for parameter in layer.parameters())  # a parametrised layer holds other numbers
        for fmt in map(format_named, formats):
            if fmt.refuses(spec):
                continue
            largest, every = fmt.largest_rank(spec), fmt.candidate_ranks(weight.detach(), spec)
            ranks = {round_rank(rank, options.multiple, largest): None for rank in every}
            chains = {rank: fmt.stages(spec, rank) for rank in ranks}
            steps = [(site.chain_macs(stages), rank, chain_params(stages)) for rank, stages in chains.items()]
            cheaper = sorted((step for step in steps if step[0] < site.macs), key=lambda step: step[0])
            if cheaper:
                chain_costs, kept, numbers = zip(*cheaper, strict=True)
                all_candidates.append(
                    RankCandidates(site.name, fmt.name, kept, chain_costs, site.macs, numbers, params)
                )
    if not all_candidates:
        raise BudgetError(_nothing_to_do(layers, formats))
    return tuple(all_candidates)


def candidates_of_plan(dense: nn.Module, layers: tuple[LayerSite, ...], plan: Plan) -> tuple[RankCandidates, ...]:
    """The one rank of every layer of ``plan``.

    Raises:
        LayerError: the plan is empty, or a layer of it is missing, has to stay dense, or does not take its format or
            rank.
    """
    if not plan.choices:
        raise LayerError("a plan that is carried out names at least one layer; got none")
    known, all_candidates = {site.name: site for site in layers}, []
    for choice, stages in zip(plan.choices, plan_stages(dense, plan).values(), strict=True):
        site = known.get(choice.layer)
        reason = "it is no layer of the dense model" if site is None else site.reason
        if site is None or reason is not None:
            raise LayerError(f"a plan names layers that can be replaced; got {choice.layer!r}: {reason}")
        params = sum(parameter.numel() for parameter in dense.get_submodule(choice.layer).parameters())
        macs, numbers = site.chain_macs(stages), chain_params(stages)
        all_candidates.append(
            RankCandidates(choice.layer, choice.format, (choice.rank,), (macs,), site.macs, (numbers,), params)
        )
    return tuple(all_candidates)


def prepare_candidates(
    search: RankSearch,
    all_candidates: tuple[RankCandidates, ...],
    decompose: Decomposer,
    candidates_per_layer: int,
    show: OnProgress,
) -> tuple[RankCandidates, ...]:
    """The candidates as ``search`` wants them: few where every rank costs time, with errors, with suggestions."""
    if search.wants_few_ranks and not search.tunes_layers:
        most = _FINER * candidates_per_layer if search.wants_errors else candidates_per_layer
        all_candidates = tuple(candidates.thinned(most) for candidates in all_candidates)
    if search.wants_suggestions:
        all_candidates = tuple(
            replace(candidates, suggested=_suggested(candidates, decompose.model)) for candidates in all_candidates
        )
    if search.wants_errors:
        wanted = {candidates: anchors(candidates) for candidates in all_candidates}
        total, done = sum(map(len, wanted.values())), count(1)
        filled = []
        for candidates, positions in wanted.items():
            errors: dict[int, float] = {}
            for at in positions:
                if min(errors.values(), default=1.0) < _SMALL:
                    break
                factored = decompose(Choice(candidates.layer, candidates.format, candidates.ranks[at]))
                weighted = factored.weighted_error
                errors[at] = factored.relative_error if weighted is None else weighted
                show(Progress("decompose", next(done), total, candidates.layer))
            filled.append(replace(candidates, errors=_interpolate_errors(candidates, errors)))
        all_candidates = tuple(filled)
    return all_candidates


def _interpolate_errors(candidates: RankCandidates, known: Mapping[int, float]) -> tuple[float, ...]:
    """Errors at all ranks: as measured, or on straight lines between, log error over the square root of the MACs.

    At no MACs the error is 1. Beyond the last one measured the last line goes on.
    """
    if len(known) == len(candidates.ranks):
        return tuple(known[at] for at in range(len(candidates.ranks)))
    points = [(0.0, 0.0)]
    for at, error in sorted(known.items()):
        points.append((candidates.macs[at] ** 0.5, min(math.log(max(error, _ROUNDING)), points[-1][1])))
    errors = []
    for at, macs in enumerate(candidates.macs):
        right = next((n for n, (x, _) in enumerate(points) if x >= macs**0.5), len(points) - 1)
        (x0, y0), (x1, y1) = points[right - 1], points[right]
        line = y0 + (y1 - y0) * (macs**0.5 - x0) / (x1 - x0)
        errors.append(known.get(at, math.exp(max(line, math.log(_ROUNDING)))))
    return tuple(errors)


def _suggested(candidates: RankCandidates, dense: nn.Module) -> int:
    """The position that takes about the share of MACs of a Tucker-2 (an SVD without window) at the ranks of EVBMF.

    Of several groups the first one is asked. Of a layer that was factorised in an earlier round the core is.
    """
    _, kernel, spec = layer_at(dense, candidates.layer)
    S, T, taps = spec.in_channels // spec.groups, spec.out_channels // spec.groups, spec.taps
    R1, R2 = evbmf_tucker2_ranks(support_core(kernel_to_order3(kernel.detach()[:T])), stored=kernel.dtype)
    numbers = min(R1, R2) * (S + T) if taps == 1 else S * R1 + R1 * R2 * taps + R2 * T
    return candidates.within(numbers / (S * T * taps) * candidates.dense_macs)


def _nothing_to_do(layers: tuple[LayerSite, ...], formats: Sequence[str]) -> str:
    reasons = sorted({site.reason for site in layers if site.reason})
    return (
        f"none of the {len(layers)} layers can be made cheaper by {', '.join(formats)}"
        + (f" ({'; '.join(reasons)})" if reasons else "")
        + ": inspect the model to see each layer's reason, or allow other formats"
    )
