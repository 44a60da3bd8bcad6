"""What a network would cost within a budget: a plan from integers, and nothing tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from polyadic.errors import BudgetError
from polyadic.layers import device_of
from polyadic.pipeline.all_candidates import find_candidates, prepared
from polyadic.pipeline.kernels import Kernels
from polyadic.pipeline.options import CompressOptions, CostEstimate, OnProgress
from polyadic.pipeline.outcome import planned_layer
from polyadic.pipeline.reach import fill_budget
from polyadic.pipeline.space import Asked, Request
from polyadic.pipeline.speed import LatencyCheck, in_time
from polyadic.pipeline.timed_ladders import on_engine, timed_cost
from polyadic.schema import Plan
from polyadic.search import SearchSpace, Uniform
from polyadic.surgery import copy_model, find_layers, network_cost


def estimate_cost(
    model: nn.Module,
    example_input: Tensor,
    *,
    budget: Sequence[str],
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> CostEstimate:
    """The plan of a strategy that needs no trials, and what the network would cost with it; the model is left alone.

    Args:
        model: any module.
        example_input: a batch (N, ...).
        budget: what the network may cost, such as ``["macs=50%"]``.
        formats: names of the formats to choose from. Ranks of some depend on the kernels: load the weights first.
        options: of these ``search`` (``Uniform()`` when absent), ``exclude``, ``round_to``, ``rungs``, ``latency`` and
            ``require_speedup`` count; and
            ``seed`` and ``cache`` where the strategy asks for errors, which are those in the plain norm.
        on_progress: called where kernels are decomposed.

    Raises:
        BudgetError: no budget or one that is out of reach, a strategy that needs trials.
        LayerError: the model cannot be run or compressed.
        PolyadicError: numbers out of range.
    """
    options = replace(options or CompressOptions(), search=(options and options.search) or Uniform())
    if not budget:
        raise BudgetError("a forecast takes a budget (macs=50%): a drop is not known before anything was tried")
    dense = copy_model(model).eval()
    example = example_input.to(device_of(dense))
    sites, cost = find_layers(dense, example), network_cost(dense, example)
    cost = timed_cost(cost, dense, example, options)
    request = Request.of(Asked(None, tuple(budget), tuple(formats)), options, cost)
    every = find_candidates(dense, sites, request.formats, options)
    every, refused = on_engine(every, sites, options, request, on_progress)
    space, search = request.space(every, dense, cost, refused), request.search
    if search.expected_trials(space) > 1:
        raise BudgetError(
            f"{search.name} needs trials, and a forecast makes none: choose uniform, error-bound or vbmf, or search"
        )
    all_candidates = prepared(
        search, space.all_candidates, Kernels(dense, options), options.candidates_per_layer, on_progress
    )

    def concluded(other: SearchSpace) -> Plan:
        return fill_budget(other, search.conclude(replace(other, all_candidates=all_candidates), ()))

    plan, speed = concluded(space), None
    if options.latency is not None:
        track = LatencyCheck(options.latency, dense, example, space)
        speed = in_time(track, plan, concluded, require_speedup=options.require_speedup)
        plan = speed.plan
    layers = tuple(planned_layer(site, plan, request, space, options) for site in sites)
    return CostEstimate(plan, cost, space.cost(plan), layers, speed)
