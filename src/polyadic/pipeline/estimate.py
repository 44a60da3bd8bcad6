"""What a network would cost within a budget: a plan from integers, and nothing tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from polyadic.errors import BudgetError
from polyadic.layers import Inputs, device_of, on_device
from polyadic.pipeline.apply import Decomposer
from polyadic.pipeline.candidates import find_candidates, prepare_candidates
from polyadic.pipeline.latency_check import LatencyCheck, check_latency
from polyadic.pipeline.options import CompressOptions, OnProgress
from polyadic.pipeline.outcomes import estimate_layers
from polyadic.pipeline.search import fill_budget
from polyadic.pipeline.setup import search_space
from polyadic.pipeline.target import Target
from polyadic.pipeline.timed_candidates import measure_cost, time_candidates
from polyadic.schema import CostEstimate, Plan
from polyadic.search import SearchSpace, Uniform
from polyadic.surgery import copy_model, find_layers_as_is, separate_for_good, unwrap_model


def estimate_cost(
    model: nn.Module,
    example_input: Inputs,
    *,
    budget: Sequence[str],
    formats: Sequence[str] = ("cp-epc", "svd"),
    options: CompressOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> CostEstimate:
    """The plan of a search that needs no trials, and what the network would cost with it; the model is left alone.

    Args:
        model: any module.
        example_input: a batch (N, ...), a tuple of inputs by position, or a dict by name.
        budget: what the network may cost, such as ``["macs=50%"]``.
        formats: names of the formats to choose from. Ranks of some depend on the kernels: load the weights first.
        options: of these ``search`` (``Uniform()`` when absent), ``exclude``, ``round_to``, ``candidates_per_layer``,
            ``latency`` and ``require_speedup`` count; and ``seed`` and ``cache`` where the search asks for errors,
            which are those in the plain norm.
        on_progress: called where kernels are decomposed.

    Raises:
        BudgetError: no budget or one that is out of reach, a search that needs trials.
        LayerError: the model cannot be run or compressed.
        PolyadicError: numbers out of range.
    """
    options = replace(options or CompressOptions(), search=(options and options.search) or Uniform())
    if not budget:
        raise BudgetError("an estimate takes a budget (macs=50%): a drop is not known before anything was tried")
    dense = copy_model(unwrap_model(model)).eval()
    example = on_device(example_input, device_of(dense))
    separate_for_good(dense, example)
    layers, cost = find_layers_as_is(dense, example), measure_cost(dense, example, options)
    target = Target.of(None, budget, formats, None, options, cost)
    every = find_candidates(dense, layers, target.formats, options)
    every, refused = time_candidates(every, layers, target, options, on_progress)
    space, search = search_space(target, every, dense, cost, refused), target.search
    if search.expected_trials(space) > 1:
        raise BudgetError(
            f"{search.name} needs trials, and an estimate makes none: choose uniform, error-bound or vbmf, or search"
        )
    decompose = Decomposer(dense, options.cache, options.seed)
    few = prepare_candidates(search, space.candidates, decompose, options.candidates_per_layer, on_progress)

    def conclude(other: SearchSpace) -> Plan:
        return fill_budget(other, search.conclude(replace(other, candidates=few), ()))

    plan, latency = conclude(space), None
    if options.latency is not None:
        check = LatencyCheck(options.latency, dense, example, space)
        latency = check_latency(check, plan, conclude, require_speedup=options.require_speedup)
        plan = latency.plan
    return CostEstimate(plan, cost, space.cost(plan), estimate_layers(plan, layers, target, space, options), latency)
