"""Divide a budget among layers so that the sum of their losses is least: Lagrange multipliers, then what is left over.

For multipliers ``m`` of the limits every layer takes the option of least ``loss^p + m . cost`` by itself. The smallest
multipliers that keep all limits are found by bisection along one direction, which several limits turn towards the one
that is exceeded most. What rounding leaves of the budget goes to the layers where it does most good.

``p = 1`` is right where losses of single layers add up. They do so for mild compression only; a smaller ``p`` counts
many small losses for more, a larger one fears the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polyadic.schema import Budget, Plan
from polyadic.search.loss_table import Option, options_cost, options_plan
from polyadic.search.space import SearchSpace, cheapest_plan

Table = Mapping[str, Sequence[Option]]
Chosen = dict[str, Option]
"""One option for each layer."""

_ROUNDS = 8  # turns of the direction, where there are several limits


def allocate(space: SearchSpace, table: Table, power: float = 1.0) -> Plan:
    """The plan of least total loss within the budget of the space; the cheapest plan of all if the table has none.

    Raises:
        ValueError: the space has no budget.
    """
    if space.budget is None:
        raise ValueError("an allocation divides a budget; the search space has none")
    direction = dict.fromkeys(space.budget.limits, 1.0)
    best: Chosen | None = None
    for _ in range(_ROUNDS if len(direction) > 1 else 1):
        chosen = _along(space, table, direction, power)
        if chosen is None:
            break
        chosen = _filled(space, table, chosen, power)
        if best is None or _total(chosen) < _total(best):
            best = chosen
        cost = options_cost(space, chosen.values())
        use = {name: getattr(cost, name) / limit for name, limit in space.budget.limits.items()}
        direction = {name: share * use[name] ** 4 for name, share in direction.items()}
    return options_plan(best.values()) if best is not None else cheapest_plan(space)


def _along(space: SearchSpace, table: Table, direction: Mapping[str, float], power: float) -> Chosen | None:
    """The options of the smallest multiplier along one direction of the limits that the budget admits, if one does."""
    priced = {
        layer: [(option.loss**power, _saved(space, option, direction), option) for option in options]
        for layer, options in table.items()
    }

    def at(multiplier: float) -> Chosen:
        return {layer: min(rows, key=lambda row: row[0] - multiplier * row[1])[2] for layer, rows in priced.items()}

    def admits(chosen: Chosen) -> bool:
        return (space.budget or Budget()).admits(options_cost(space, chosen.values()))

    low, high = 1e-12, 1e12
    if not admits(at(high)):
        return None
    while high > 1.001 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if admits(at(middle)) else (middle, high)
    return at(high)


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


def _filled(space: SearchSpace, table: Table, chosen: Chosen, power: float) -> Chosen:
    """Options of less loss wherever the budget still admits one, the best buys first."""
    chosen, budget = dict(chosen), space.budget or Budget()
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
            return chosen
        _, layer, at = max(buys)
        chosen[layer] = table[layer][at]


def _total(chosen: Chosen) -> float:
    return sum(option.loss for option in chosen.values())
