"""The question that a search is asked, checked: what may be lost, what the network may cost, by which strategy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyadic.errors import BudgetError, PolyadicError
from polyadic.formats import format_named
from polyadic.pipeline.options import CompressOptions
from polyadic.schema import Budget, Cost, Plan
from polyadic.schema.budget import format_cost
from polyadic.search import Bisection, Frontier, RankCandidates, RankSearch, SearchSpace, cheapest_plan
from polyadic.surgery import layer_at
from polyadic.training import Task

LATER = ("network_tuning", "testing_execution")
"""What a task says of itself that no trial depends on: a search and a compression share their trials."""


@dataclass(frozen=True)
class Asked:
    """What the user asks for, as given to :func:`polyadic.compress`."""

    max_drop: float | str | None = None
    budget: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    plan: Plan | None = None


@dataclass(frozen=True)
class Drop:
    """What may be lost.

    Attributes:
        amount: points of score, or per cent of the dense network's score.
        relative: which of the two.
    """

    amount: float
    relative: bool = False

    def points(self, dense_score: float) -> float:
        """In points of score, where the dense network scores that much (a fraction)."""
        return self.amount * dense_score if self.relative else self.amount

    @staticmethod
    def parse(written: float | str, name: str = "max_drop") -> Drop:
        """From a number of points, or from text: ``0.5`` is points, ``0.5%`` a share of the dense score.

        Raises:
            PolyadicError: something else, or out of range.
        """
        text = str(written).strip()
        try:
            drop = Drop(float(text.removesuffix("%")), text.endswith("%"))
        except ValueError as error:
            raise PolyadicError(_no_drop(name, written)) from error
        if not 0.0 <= drop.amount < 100.0:
            raise PolyadicError(_no_drop(name, written))
        return drop


@dataclass(frozen=True)
class Request:
    """What was asked, read and checked.

    Attributes:
        max_drop: what may be lost in the end; None where only a budget, or a plan, was given.
        budget: what the network may cost; None where only a drop was given.
        search: the strategy; not asked where there is a plan.
        formats: names of the formats.
        plan: the plan to carry out; None where one is to be found.
    """

    max_drop: Drop | None
    budget: Budget | None
    search: RankSearch
    formats: tuple[str, ...]
    plan: Plan | None = None

    @staticmethod
    def of(asked: Asked, options: CompressOptions, dense: Cost) -> Request:
        """From what the user wrote; ``dense`` is the cost of the dense network.

        Raises:
            BudgetError: neither a drop nor a budget nor a plan, a budget that cannot be read or that the dense network
                keeps as it is, a strategy that cannot serve a budget.
            PolyadicError: numbers out of range, formats that do not exist.
        """
        _check(asked.formats, options)
        drop = None if asked.max_drop is None else Drop.parse(asked.max_drop)
        budget = Budget.parse(asked.budget, dense) if asked.budget else None
        search = options.search or (Bisection() if budget is None else Frontier())
        if asked.plan is None:
            _check_searchable(drop, budget, search, dense)
        return Request(drop, budget, search, asked.formats, asked.plan)

    def space(
        self,
        all_candidates: tuple[RankCandidates, ...],
        model: nn.Module,
        dense: Cost,
        refused: Mapping[str, str] | None = None,
    ) -> SearchSpace:
        """The problem as far as it is known before anything is scored.

        Raises:
            BudgetError: no plan keeps the budget; says what is the best that is possible.
        """
        layers = {candidates.layer for candidates in all_candidates}
        sizes = [layer_at(model, layer)[1].element_size() for layer in layers]
        space = SearchSpace(all_candidates, 0.0, dense, self.budget, math.inf, min(sizes, default=4), refused or {})
        cheapest = cheapest_plan(space)  # the plan itself where one was given
        if self.budget is not None and not space.admits(cheapest):
            raise BudgetError(_impossible(space, self.budget, cheapest, given=self.plan is not None))
        return space

    def allowed(self, finetune_recovery_factor: float, dense_score: float) -> float:
        """Points that may be lost before fine-tuning: any number under a budget."""
        if self.budget is not None or self.max_drop is None:
            return math.inf
        return finetune_recovery_factor * self.max_drop.points(dense_score)


def run_digest(
    dense: nn.Module,
    task: Task,
    all_candidates: tuple[RankCandidates, ...],
    options: CompressOptions,
    request: Request,
    example: Tensor,
) -> str:
    """SHA-256 of everything that decides the trials: weights, data, options, geometry."""
    parts = (
        all_candidates,
        (request.max_drop, request.budget, request.plan, options.candidates_per_layer),
        (options.latency, options.require_speedup),
        (options.eps, options.finetune_recovery_factor, options.seed, options.data_aware, options.moment_batches),
        repr(request.search),
        repr(options.sequential),
        tuple(example.shape[1:]),
        {key: value for key, value in task.provenance().items() if key not in LATER},
    )
    digest = hashlib.sha256(repr(parts).encode())
    for name, tensor in sorted(dense.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check(formats: Sequence[str], options: CompressOptions) -> None:
    if not options.finetune_recovery_factor > 0:
        raise PolyadicError(
            f"finetune_recovery_factor is a number of times max_drop above 0; got {options.finetune_recovery_factor}"
        )
    if options.eps is not None and not 0.0 <= options.eps < 100.0:
        raise PolyadicError(_no_drop("eps", options.eps))
    for name in ("trials", "candidates_per_layer", "round_to"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise PolyadicError(f"{name} is a whole number from 1 up; got {value}")
    if options.timeout is not None and not options.timeout > 0:
        raise PolyadicError(f"timeout is a number of seconds above 0; got {options.timeout:g}")
    if not formats:
        raise PolyadicError("compression needs at least one format to choose from; got none")
    for name in formats:
        format_named(name)


def _check_searchable(drop: Drop | None, budget: Budget | None, search: RankSearch, dense: Cost) -> None:
    if drop is None and budget is None:
        raise BudgetError(
            "a search takes a drop (max_drop=0.5, --max-drop 0.5) or a budget (budget=['macs=50%'], "
            "--budget macs=50%); got neither"
        )
    if budget is not None and search.tunes_layers:
        raise BudgetError(
            f"{search.name} finds ranks for a drop, layer by layer; for a budget choose another search: frontier, "
            "pars, greedy, uniform, error-bound or vbmf"
        )
    if budget is not None and budget.admits(dense):
        raise BudgetError(f"the dense network keeps the budget ({budget}) as it is: ask for less")


def _no_drop(name: str, given: float | str) -> str:
    share = ", or a share of the dense score (0.5%)" if name == "max_drop" else ""
    return f"{name} is a number of points from 0 to below 100 (0.5 = half a percent){share}; got {given}"


def _impossible(space: SearchSpace, budget: Budget, cheapest: Plan, *, given: bool) -> str:
    cost = space.cost(cheapest)
    best = ", ".join(
        f"{name} {format_cost(name, getattr(cost, name))} "
        f"({100 * getattr(cost, name) / (getattr(space.dense, name) or 1):.1f} %)"
        for name in budget.limits
    )
    if given:
        return f"the budget is {budget}; with the given plan the network costs {best}: allow more, or change the plan"
    return (
        f"the budget is {budget}; with every layer at its lowest rank the network still costs {best}: allow more, or "
        "give formats that go lower"
        + (", or --round-to 1, or --no-require-speedup" if space.dense.latency is not None else "")
    )
