"""PARS: proxy-based automatic rank selection (Sobolev, Ermilov, Phan and Cichocki, Mathematics 10(20), 2022).

Bayesian optimisation of one compression ratio for each layer. A Gaussian process with one length scale a layer (Matern
5/2) is fitted to what untuned networks lost after re-calibration of batch norm; the next plan has the greatest expected
improvement (`GPSampler` of Optuna). No plan outside the budget is tried.

**Under a budget** a point is ``x_l = sqrt(s_l) / mean(sqrt(s))`` with ``s_l`` the share of its cost that layer ``l``
keeps: of its MACs, its parameters, or its time, whichever counts. Every x is projected onto the budget by one factor on
all shares, so that no x is outside; and since x knows proportions only, a larger x is not better by itself, which in
plain shares would draw every proposal out of the budget and back to the same plan. **For an allowed drop** a point is
``sqrt(s_l)`` itself, the cost is minimised, and the drop is a constraint with a process of its own; once a plan has
kept it, points are projected onto a budget a little below that plan. Square roots, since one rank more changes little
where there are many.

What is learnt from is the plan that was tried, not the point that was asked for: any trial of a whole network counts.
"""

from __future__ import annotations

import hashlib
import math
import random
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import GPSampler
from optuna.trial import TrialState, create_trial
from torch.quasirandom import SobolEngine

from polyadic.errors import PolyadicError
from polyadic.schema import Plan, Trial
from polyadic.search.ratio_space import RatioSpace
from polyadic.search.space import SearchSpace, cheapest_plan
from polyadic.search.strategy import RankSearch, best_within, cheapest_kept
from polyadic.search.study_storage import quiet_optuna

_RELATIVE = (0.2, 1.8)  # bounds of x under a budget: a layer at 1/25 to 3 times the mean share
_LINEAR = 10.0  # a tenth of the median loss is where steps turn from linear to logarithmic
_STEP = 0.97  # of what the best plan costs, for the next one, where a drop is given
_NEARBY = 200  # plans tried around a point whose own plan is known already


@final
@dataclass(frozen=True)
class PARS(RankSearch):
    """Bayesian optimisation of the ratios; see the module.

    Attributes:
        evaluations: trials of whole networks, those included that the history begins with (paper: 100; 200 for a
            ResNet-56).
        initial: the first of them: ``start``, the uniform plan, and quasi-random points around.
        spread: side of the box of these, as a share of the whole box.
        start: a plan to begin from, say of another search; ranks that are no candidates go to the nearest.
        seed: of the quasi-random points and of the sampler.
    """

    name = "pars"
    wants_errors = True  # of several formats a ratio stands for the one with the least error

    evaluations: int = 100
    initial: int = 10
    spread: float = 0.5
    start: Plan | None = None
    seed: int = 0

    def propose(self, space: SearchSpace, trials: Sequence[Trial], running: Sequence[Plan] = ()) -> Plan | None:
        """The next plan of the first design; then the one of greatest expected improvement."""
        ratios = RatioSpace.of(space)
        seen = _wholes(space, trials)
        taken = {*seen, *running}
        anchors = self._anchors(ratios)
        if len(taken) >= self.evaluations or not anchors:
            return None
        for plan in anchors:
            if plan not in taken:
                return plan
        state = repr((self.seed, len(seen), sorted(map(repr, running))))
        source = random.Random(int.from_bytes(hashlib.sha256(state.encode()).digest()))
        if len(taken) < self.initial or len(seen) < 2:
            point = self._quasi_random(ratios, anchors[0], len(taken))
        else:
            point = _asked(ratios, list(seen.values()), running, source.getrandbits(31))
        return _untaken(_cheaper(ratios, trials), point, taken, source)

    def conclude(self, space: SearchSpace, trials: Sequence[Trial]) -> Plan:
        """The plan of least loss within the budget, or the cheapest one that kept the drop."""
        if space.budget is None:
            return cheapest_kept(space, trials)
        best = best_within(space, trials)
        if best is not None:
            return best
        untried = RatioSpace.of(space).plan([1.0] * len(space.by_layer()))
        return untried if untried is not None else cheapest_plan(space)

    def expected_trials(self, space: SearchSpace) -> int:
        """As many as it may do."""
        return self.evaluations

    def _anchors(self, ratios: RatioSpace) -> list[Plan]:
        """What is tried before anything else: the plan to begin from, uniform shares."""
        layers = len(ratios.options)
        levels = (1.0,) if ratios.space.budget is not None else (0.5, 0.25, 0.75)
        shares = [[level] * layers for level in levels]
        if self.start is not None:
            shares.insert(0, ratios.shares(_with_candidates(ratios.space, self.start)))
        plans = [ratios.plan(one) for one in shares]
        return [plan for plan in plans if plan is not None and _is_whole(ratios.space, plan)]

    def _quasi_random(self, ratios: RatioSpace, centre: Plan, number: int) -> list[float]:
        """A scrambled Sobol point in a box around a plan."""
        (low, high), middle = _bounds(ratios), _point(ratios, centre)
        engine = SobolEngine(len(middle), scramble=True, seed=self.seed)  # type: ignore[no-untyped-call]  # torch has no types here
        draw, side = engine.draw(number + 1)[-1].tolist(), self.spread * (high - low)
        return [min(max(x + (u - 0.5) * side, low), high) for x, u in zip(middle, draw, strict=True)]


def _with_candidates(space: SearchSpace, plan: Plan) -> Plan:
    """The plan with the nearest candidate ranks: a search sees a few of all ranks only.

    Raises:
        PolyadicError: a layer or its format is not to choose from.
    """
    known = {(candidates.layer, candidates.format): candidates for candidates in space.candidates}
    choices = []
    for choice in plan.choices:
        candidates = known.get((choice.layer, choice.format))
        if candidates is None:
            raise PolyadicError(
                f"the plan to begin from puts layer {choice.layer!r} into {choice.format}, which this search does not "
                "choose from: allow the format, or leave the layer out"
            )
        far = [sum(abs(a - b) for a, b in zip(rank, choice.rank, strict=True)) for rank in candidates.ranks]
        choices.append(replace(choice, rank=candidates.ranks[far.index(min(far))]))
    return Plan(tuple(choices))


def _wholes(space: SearchSpace, trials: Sequence[Trial]) -> dict[Plan, Trial]:
    return {trial.plan: trial for trial in trials if trial.joint and _is_whole(space, trial.plan)}


def _is_whole(space: SearchSpace, plan: Plan) -> bool:
    """Whether it replaces several layers, if there are several: rows of a table of single layers are not learnt from.

    They would outnumber all others and say little; so none such is proposed either.
    """
    return len(plan.choices) >= min(2, len(space.by_layer()))


def _bounds(ratios: RatioSpace) -> tuple[float, float]:
    if ratios.space.budget is not None:
        return _RELATIVE
    least = min(
        ratios.cost(layer, options[0]) / ratios.cost(layer, options[-1]) for layer, options in ratios.options.items()
    )
    return math.sqrt(least), 1.0


def _point(ratios: RatioSpace, plan: Plan) -> list[float]:
    """The coordinates x of a plan, within the bounds."""
    roots = [math.sqrt(share) for share in ratios.shares(plan)]
    unit = statistics.fmean(roots) if ratios.space.budget is not None else 1.0
    low, high = _bounds(ratios)
    return [min(max(root / unit, low), high) for root in roots]


def _asked(ratios: RatioSpace, seen: Sequence[Trial], running: Sequence[Plan], seed: int) -> list[float]:
    """The point of greatest expected improvement, where running plans count as points to keep away from."""
    names = [f"x{number:03d}" for number in range(len(ratios.options))]
    box: dict[str, BaseDistribution] = dict.fromkeys(names, FloatDistribution(*_bounds(ratios)))

    def at(plan: Plan) -> dict[str, float]:
        return dict(zip(names, _point(ratios, plan), strict=True))

    outcomes: list[tuple[float, dict[str, float]]]
    over = [trial.drop - ratios.space.allowed for trial in seen]
    if ratios.space.budget is not None:
        outcomes = [(loss, {}) for loss in _evened([trial.loss for trial in seen])]
    elif not any(points <= 0 for points in over):  # as long as nothing keeps the drop, that is what is looked for
        outcomes = [(points, {}) for points in _evened(over)]
    else:
        dense = ratios.space.dense_figure
        outcomes = [
            (ratios.space.figure(trial.plan) / dense, {"drop": points})
            for trial, points in zip(seen, _evened(over), strict=True)
        ]
    past = [create_trial(state=TrialState.RUNNING, params=at(plan), distributions=box) for plan in running]
    past += [
        create_trial(params=at(trial.plan), distributions=box, value=value, constraints=limits)
        for trial, (value, limits) in zip(seen, outcomes, strict=True)
    ]
    with (
        quiet_optuna(),
        np.errstate(divide="ignore", invalid="ignore"),
    ):  # all improvements may be 0 in double precision
        sampler = GPSampler(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        study = optuna.create_study(sampler=sampler, direction="minimize")
        study.add_trials(past)
        asked = study.ask(box).params
    return [asked[name] for name in names]


def _cheaper(ratios: RatioSpace, trials: Sequence[Trial]) -> RatioSpace:
    """The same layers under a budget a little below the cheapest plan that kept the drop, as soon as there is one.

    A proposal that is dearer would be of no use, and one that is much cheaper would hardly keep the drop.
    """
    best = cheapest_kept(ratios.space, trials)
    if ratios.space.budget is not None or not best.choices:
        return ratios
    space = ratios.space
    return replace(ratios, space=space.limited(_STEP * space.figure(best) / space.dense_figure))


def _evened(values: Sequence[float]) -> list[float]:
    """Values in the steps of their logarithm, but linear around 0, where the sign stays as it is.

    Losses span decades, and a Gaussian process takes the largest for all there is. Those that are not finite count as
    the largest finite one.
    """
    finite = [value for value in values if math.isfinite(value)]
    unit = statistics.median(abs(value) for value in finite) / _LINEAR if finite else 0.0
    most = max(finite, default=1.0)
    return [math.asinh((value if math.isfinite(value) else most) / max(unit, 1e-12)) for value in values]


def _untaken(ratios: RatioSpace, point: Sequence[float], taken: Collection[Plan], source: random.Random) -> Plan | None:
    """The plan of a point; if that is known, one of a point nearby, looked for farther and farther away.

    None where all that are found are known: few plans are left.
    """
    for attempt in range(_NEARBY + 1):
        reach = 1.5 * attempt / _NEARBY  # a factor of up to e^3 on a share, in one standard deviation
        plan = ratios.plan([(max(x, 1e-3) * math.exp(source.gauss(0.0, reach))) ** 2 for x in point])
        if plan is not None and _is_whole(ratios.space, plan) and plan not in taken:
            return plan
    return None
