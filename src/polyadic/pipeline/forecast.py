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
from polyadic.pipeline.options import CompressOptions, Forecast, LayerForecast, OnProgress
from polyadic.pipeline.outcome import why_dense
from polyadic.pipeline.problem import Asked, Request
from polyadic.pipeline.reach import topped_up
from polyadic.schema import LayerSite, plain_rank
from polyadic.search import Uniform
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
        options: of these ``search`` (``Uniform()`` when absent), ``exclude``, ``round_to`` and ``rungs`` count; and
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
    request = Request.of(Asked(None, tuple(budget), tuple(formats)), options, cost)
    problem, search = request.problem(ladders_of(dense, sites, request.formats, options), dense, cost), request.search
    if search.expected_trials(problem) > 1:
        raise BudgetError(
            f"{search.name} needs trials, and a forecast makes none: choose uniform, error-bound or vbmf, or search"
        )
    ladders = prepared(search, problem.ladders, Kernels(dense, options), options.rungs, on_progress)
    plan = topped_up(problem, search.conclude(replace(problem, ladders=ladders), ()))

    def planned(site: LayerSite) -> LayerForecast:
        choice = plan.of(site.name)
        if choice is None:
            return LayerForecast(site.name, site.macs, site.macs, reason=why_dense(site, request, problem, options)[1])
        ladder = problem.ladder(choice)
        after = ladder.macs[ladder.position(choice)]
        return LayerForecast(site.name, site.macs, after, choice.format, plain_rank(choice.rank))

    return Forecast(plan, cost, problem.cost(plan), tuple(planned(site) for site in sites))
