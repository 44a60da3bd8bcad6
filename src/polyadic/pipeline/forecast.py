"""What a network would cost within a budget: a plan from integers, and nothing tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from polyadic.costing import network_cost
from polyadic.errors import BudgetError
from polyadic.layers import device_of
from polyadic.pipeline.kernels import Kernels
from polyadic.pipeline.ladders import ladders_of, prepared
from polyadic.pipeline.options import CompressOptions, Forecast, OnProgress
from polyadic.pipeline.outcome import planned_layer
from polyadic.pipeline.problem import Asked, Request
from polyadic.pipeline.reach import topped_up
from polyadic.pipeline.speed import Track, in_time
from polyadic.pipeline.timed_ladders import on_engine, timed_cost
from polyadic.schema import Plan
from polyadic.search import Problem, Uniform
from polyadic.surgery import copied, find_sites


def forecast(
    model: nn.Module,
    example_input: Tensor,
    *,
    budget: Sequence[str],
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Forecast:
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
    dense = copied(model).eval()
    example = example_input.to(device_of(dense))
    sites, cost = find_sites(dense, example), network_cost(dense, example)
    cost = timed_cost(cost, dense, example, options)
    request = Request.of(Asked(None, tuple(budget), tuple(formats)), options, cost)
    every = ladders_of(dense, sites, request.formats, options)
    every, refused = on_engine(every, sites, options, request, on_progress)
    problem, search = request.problem(every, dense, cost, refused), request.search
    if search.expected_trials(problem) > 1:
        raise BudgetError(
            f"{search.name} needs trials, and a forecast makes none: choose uniform, error-bound or vbmf, or search"
        )
    ladders = prepared(search, problem.ladders, Kernels(dense, options), options.rungs, on_progress)

    def concluded(other: Problem) -> Plan:
        return topped_up(other, search.conclude(replace(other, ladders=ladders), ()))

    plan, speed = concluded(problem), None
    if options.latency is not None:
        track = Track(options.latency, dense, example, problem)
        speed = in_time(track, plan, concluded, require_speedup=options.require_speedup)
        plan = speed.plan
    layers = tuple(planned_layer(site, plan, request, problem, options) for site in sites)
    return Forecast(plan, cost, problem.cost(plan), layers, speed)
