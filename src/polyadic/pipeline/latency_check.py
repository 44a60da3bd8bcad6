"""Whole networks on the engine: whether a plan is as fast as it was predicted, and what is done if it is not.

Weights do not change the time of a network, so all of it is measured on networks of the plan's structure, before any
layer is decomposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import nn

from polyadic.engines import LatencyModel, Measured, Prepared, draw_weights
from polyadic.layers import Inputs
from polyadic.schema import Budget, Choice, LatencyResult, Plan
from polyadic.schema.budget import format_cost
from polyadic.search import SearchSpace
from polyadic.surgery import copy_model, rebuild

CORRECTIONS = 4
"""How often a plan that is too slow, or faster than it has to be, is concluded anew for another limit."""

SLACK = 0.03
"""Of a limit; what is left unused beyond it is given back to the ranks."""

Conclude = Callable[[SearchSpace], Plan]
"""What a search concludes from its trials for a problem with another budget."""


@dataclass(frozen=True)
class LatencyCheck:
    """Where plans are timed.

    Attributes:
        model: takes the times.
        dense: the dense network.
        example: what it takes, a sample or more.
        space: with times on its candidates and that of the network that they begin with.
        latency: of the dense network, as the budget knows it; None where that is what they begin with.
        whole_plan: from a plan to that of the whole network, with the choices of earlier rounds.
    """

    model: LatencyModel
    dense: nn.Module
    example: Inputs
    space: SearchSpace
    latency: float | None = None
    whole_plan: Callable[[Plan], Plan] = field(default=lambda plan: plan)

    @property
    def before(self) -> float:
        """Milliseconds of the network that the plans begin with: the dense one, or what earlier rounds have left."""
        if self.space.dense.latency is None:
            raise ValueError("plans are timed where the dense network was; the problem knows no latency")
        return self.space.dense.latency

    def speed(self, plan: Plan) -> LatencyResult:
        """Time the whole network with ``plan`` against the dense one.

        Raises:
            EngineError: the engine does not run it.
        """
        whole = self.whole_plan(plan)
        network = rebuild(copy_model(self.dense), whole)
        for choice in whole.choices:
            draw_weights(network.get_submodule(choice.layer))
        return self.of(plan, self._against_dense(network.eval()))

    def of(self, plan: Plan, pair: Measured) -> LatencyResult:
        """A measurement of the whole network, in the terms of the budget."""
        dense = self.before if self.latency is None else self.latency
        scale, predicted = dense / pair.dense, self.space.cost(plan).latency or 0.0
        return LatencyResult(plan, dense, predicted, pair.chain * scale, pair.noise * scale)

    def unchanged(self, speed: LatencyResult) -> LatencyResult:
        """No plan at all, where ``speed`` is that of one."""
        return LatencyResult(Plan(), speed.dense, self.before, self.before, 0.0)

    def final(self, speed: LatencyResult, network: nn.Module, *, require_speedup: bool) -> LatencyResult:
        """Time the ``network`` that came of a plan; what was done to the plan is that of ``speed``.

        Raises:
            EngineError: the engine does not run it.
        """
        if not self.whole_plan(speed.plan).choices:
            return speed
        timed = self.of(speed.plan, self._against_dense(network))
        timed = replace(timed, corrections=speed.corrections, put_back=speed.put_back)
        return _warned(self, timed, require_speedup)

    def _against_dense(self, network: nn.Module) -> Measured:
        return self.model.compare(self._prepared, self.model.prepare(network, self.example))

    @cached_property
    def _prepared(self) -> Prepared:
        """The dense network; making it ready can take longer than all its passes."""
        return self.model.prepare(self.dense, self.example)


def check_latency(
    check: LatencyCheck, plan: Plan, conclude: Conclude | None, *, require_speedup: bool
) -> LatencyResult:
    """``plan``, or what has to take its place so that the whole network is fast enough.

    A plan over the limit of latency by more than noise is concluded anew under a limit that is tighter by the same
    factor, a few times at most; one that leaves time unused, under a limit that is wider. Then, if the whole is not
    faster than before, the layers that gain least are put back to what they were, a quarter of them at a time. Before
    is the dense network, or what earlier rounds have left.

    Args:
        check: where it is timed.
        plan: what the search concluded, or the user gave.
        conclude: the search's conclusion from the trials that there are; None where the plan is carried out as it is.
        require_speedup: whether a network that is not faster than before is refused.

    Raises:
        EngineError: the engine does not run the network.
    """
    speed = check.speed(plan)
    if conclude is None:
        return _warned(check, speed, require_speedup)
    speed = _within_limit(check, speed, conclude)
    return _warned(check, _faster(check, speed) if require_speedup else speed, require_speedup)


def _within_limit(check: LatencyCheck, first: LatencyResult, conclude: Conclude) -> LatencyResult:
    budget = check.space.budget
    if budget is None or budget.latency is None:
        return first
    limit, dense = budget.latency, check.before
    best = speed = first
    internal, seen = limit, [first.plan]
    for done in range(1, CORRECTIONS + 1):
        late, early = _is_late(speed, limit), speed.measured + speed.noise < (1.0 - SLACK) * limit
        if not (late or early) or (late and not _is_late(best, limit)):
            break
        nearest = min(internal, speed.predicted) if late else max(internal, speed.predicted)
        internal = min(nearest * limit / speed.measured, dense)
        plan = conclude(replace(check.space, budget=replace(budget, latency=internal)))
        if plan in seen:
            break
        seen.append(plan)
        speed = replace(check.speed(plan), corrections=done)
        best = _better(best, speed, limit)
    return best


def _is_late(speed: LatencyResult, limit: float) -> bool:
    return speed.measured - speed.noise > limit


def _better(one: LatencyResult, other: LatencyResult, limit: float) -> LatencyResult:
    """The slower of those in time, because it keeps the higher ranks; the faster one if neither is."""
    if _is_late(one, limit) and _is_late(other, limit):
        return min(one, other, key=lambda speed: speed.measured)
    return max((speed for speed in (one, other) if not _is_late(speed, limit)), key=lambda speed: speed.measured)


def _faster(check: LatencyCheck, speed: LatencyResult) -> LatencyResult:
    put_back: tuple[str, ...] = ()
    others = replace(check.space.budget or Budget(), latency=None)
    while speed.plan.choices and not speed.measured + speed.noise < check.before:
        ranked = sorted(speed.plan.choices, key=lambda choice: _gain(check.space, choice))
        slowest = {choice.layer for choice in ranked[: math.ceil(len(ranked) / 4)]}
        plan = Plan(tuple(choice for choice in speed.plan.choices if choice.layer not in slowest))
        if not others.admits(check.space.cost(plan)):
            break  # a limit of latency is not kept by what is slower than before; the other limits hold first
        put_back = (*put_back, *(choice.layer for choice in ranked if choice.layer in slowest))
        faster = check.speed(plan) if plan.choices else check.unchanged(speed)
        speed = replace(faster, corrections=speed.corrections, put_back=put_back)
    return speed


def _gain(space: SearchSpace, choice: Choice) -> float:
    candidates = space.candidates_for(choice)
    return candidates.saved(candidates.position(choice), "latency")


def _warned(check: LatencyCheck, speed: LatencyResult, require_speedup: bool) -> LatencyResult:
    """What was asked for and not reached, in words."""
    said, where = [], str(check.model)
    limit = check.space.budget.latency if check.space.budget is not None else None
    if not check.whole_plan(speed.plan).choices:
        said.append(f"no plan was faster than the dense network as a whole on {where}: it is returned as it came")
    elif require_speedup and not speed.measured < speed.dense:
        said.append(
            f"the compressed network is not faster than the dense one on {where}: "
            f"{format_cost('latency', speed.measured)} instead of {format_cost('latency', speed.dense)}"
        )
    if limit is not None and speed.measured - speed.noise > limit:
        said.append(
            f"the whole network takes {format_cost('latency', speed.measured)} on {where}, more than the "
            f"{format_cost('latency', limit)} allowed; the sum of its blocks had predicted "
            f"{format_cost('latency', speed.predicted)}"
        )
    return replace(speed, warnings=tuple(said))
