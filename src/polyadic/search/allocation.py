"""Divide a budget among layers so that the sum of their losses is least: Lagrange multipliers, then what is left over.

For multipliers ``m`` of the limits every layer takes the option of least ``loss^p + m . cost`` by itself. The smallest
multipliers that keep all limits are found by bisection along one direction, which several limits turn towards the one
that is exceeded most. What rounding leaves of the budget goes to the layers where it does most good.

``p = 1`` is right where losses of single layers add up. They do so for mild compression only; a smaller ``p`` counts
many small losses for more, a larger one fears the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from polyadic.schema import Budget, Choice, Cost, Plan
from polyadic.search.loss_table import Option, options_plan
from polyadic.search.space import SearchSpace, cheapest_plan

Table = Mapping[str, Sequence[Option]]

_ROUNDS = 8  # turns of the direction, where there are several limits


def allocate(space: SearchSpace, table: Table, power: float = 1.0) -> Plan:
    """The plan of least total loss within the budget of the space; the cheapest plan of all if the table has none.

    Raises:
        ValueError: the space has no budget.
    """
    if space.budget is None:
        raise ValueError("an allocation divides a budget; the search space has none")
    direction = dict.fromkeys(space.budget.limits, 1.0)
    best: Plan | None = None
    for _ in range(_ROUNDS if len(direction) > 1 else 1):
        plan = _along(space, table, direction, power)
        if plan is None:
            break
        plan = _filled(space, table, plan, power)
        if best is None or _total(table, plan) < _total(table, best):
            best = plan
        cost = space.cost(plan)
        use = {name: getattr(cost, name) / limit for name, limit in space.budget.limits.items()}
        direction = {name: share * use[name] ** 4 for name, share in direction.items()}
    return best if best is not None else cheapest_plan(space)


def _along(space: SearchSpace, table: Table, direction: Mapping[str, float], power: float) -> Plan | None:
    """The plan of the smallest multiplier, along one direction of the limits, that the budget admits; None if none."""
    priced = {
        layer: [(option.loss**power, _saved(space, option, direction), option) for option in options]
        for layer, options in table.items()
    }

    def at(multiplier: float) -> list[Option]:
        return [min(rows, key=lambda row: row[0] - multiplier * row[1])[2] for rows in priced.values()]

    def admits(options: list[Option]) -> bool:
        return (space.budget or Budget()).admits(_cost(space, options))

    low, high = 1e-12, 1e12
    if not admits(at(high)):
        return None
    while high > 1.001 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if admits(at(middle)) else (middle, high)
    return options_plan(at(high))


def _saved(space: SearchSpace, option: Option, direction: Mapping[str, float]) -> float:
    """The share of the network that an option saves, along a direction of the limits."""
    dense = space.dense
    shares = {
        "macs": option.macs / max(dense.macs, 1),
        "params": option.params / max(dense.params, 1),
        "latency": option.latency / (dense.latency or 1.0),
    }
    shares["bytes"] = shares["params"]
    return sum(weight * shares[name] for name, weight in direction.items())


def _cost(space: SearchSpace, options: Iterable[Option]) -> Cost:
    """Of the network, every layer in its option."""
    chosen = list(options)
    macs, params = (sum(getattr(option, name) for option in chosen) for name in ("macs", "params"))
    return space.cost_after(macs, params, sum(option.latency for option in chosen))


def _filled(space: SearchSpace, table: Table, plan: Plan, power: float) -> Plan:
    """The plan with options of less loss wherever the budget still admits one, the best buys first."""
    chosen = {layer: _option(options, plan, layer) for layer, options in table.items()}
    budget = space.budget or Budget()
    even = dict.fromkeys(budget.limits, 1.0)
    while True:
        macs, params, latency = (
            sum(getattr(o, name) for o in chosen.values()) for name in ("macs", "params", "latency")
        )
        buys = [
            ((now.loss**power - option.loss**power) / max(price, 1e-12), layer, at)
            for layer, now in chosen.items()
            for at, option in enumerate(table[layer])
            if option.loss < now.loss
            for price in [_saved(space, now, even) - _saved(space, option, even)]
            if budget.admits(
                space.cost_after(
                    macs - now.macs + option.macs,
                    params - now.params + option.params,
                    latency - now.latency + option.latency,
                )
            )
        ]
        if not buys:
            return options_plan(chosen.values())
        _, layer, at = max(buys)
        chosen[layer] = table[layer][at]


def _option(options: Sequence[Option], plan: Plan, layer: str) -> Option:
    choice = plan.of(layer)
    return next(option for option in options if _choice_of(option) == choice)


def _choice_of(option: Option) -> Choice | None:
    if option.candidates is None:
        return None
    return Choice(option.candidates.layer, option.candidates.format, option.candidates.ranks[option.position])


def _total(table: Table, plan: Plan) -> float:
    return sum(_option(options, plan, layer).loss for layer, options in table.items())
