"""What is asked: what may be lost, what the network may cost, by which search; read and checked first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from polyadic.errors import BudgetError, PolyadicError
from polyadic.formats import format_named
from polyadic.pipeline.options import CompressOptions
from polyadic.schema import Budget, Cost, Plan, ScoreWords
from polyadic.search import Bisection, Frontier, RankSearch


@dataclass(frozen=True)
class Drop:
    """What may be lost.

    Attributes:
        amount: points of a score that is a fraction, else in its unit; or per cent of the dense network's score.
        relative: which of the two.
    """

    amount: float
    relative: bool = False

    def allowed(self, words: ScoreWords, dense_score: float) -> float:
        """What may be lost of the dense network's score, in the unit of drops.

        Raises:
            PolyadicError: all of it may: the amount is in another unit than the score.
        """
        if self.relative:
            return self.amount * abs(dense_score) * (1.0 if words.fraction else 0.01)
        if not words.fraction and self.amount >= dense_score > 0:
            raise PolyadicError(
                f"max_drop is in the unit of the score, and the dense network's {words.name} is "
                f"{words.said(dense_score)}; got {words.allowed(self.amount)}, all of it: write "
                f"{0.01 * dense_score:.2g}, or '1%' of it"
            )
        return self.amount

    @staticmethod
    def parse(written: float | str, name: str = "max_drop") -> Drop:
        """From a number, or from text: ``0.5`` is points of a fraction, ``0.5%`` a share of the dense score.

        Raises:
            PolyadicError: something else, or out of range.
        """
        text = str(written).strip()
        try:
            drop = Drop(float(text.removesuffix("%")), text.endswith("%"))
        except ValueError as error:
            raise PolyadicError(_not_a_drop(name, written)) from error
        if not 0.0 <= drop.amount < 100.0:
            raise PolyadicError(_not_a_drop(name, written))
        return drop


@dataclass(frozen=True)
class Target:
    """What is asked of a search.

    Attributes:
        max_drop: what may be lost in the end; None where only a budget, or a plan, was given.
        budget: what the network may cost; None where only a drop was given.
        search: the strategy; not used where there is a plan.
        formats: names of the formats to choose from.
        plan: the plan to carry out; None where one is to be found.
    """

    max_drop: Drop | None
    budget: Budget | None
    search: RankSearch
    formats: tuple[str, ...]
    plan: Plan | None = None

    @staticmethod
    def of(
        max_drop: float | str | None,
        budget: Sequence[str],
        formats: Sequence[str],
        plan: Plan | None,
        options: CompressOptions,
        dense: Cost,
    ) -> Target:
        """From what the user wrote; ``dense`` is the cost of the dense network.

        Raises:
            BudgetError: neither a drop nor a budget nor a plan, a budget that cannot be read or that the dense network
                keeps as it is, a search that cannot serve a budget.
            PolyadicError: numbers out of range, formats that do not exist.
        """
        _check_options(formats, options)
        drop = None if max_drop is None else Drop.parse(max_drop)
        limits = Budget.parse(budget, dense) if budget else None
        search = options.search or (Bisection() if limits is None else Frontier())
        if plan is None:
            _check_searchable(drop, limits, search, dense)
            usual = CompressOptions.finetune_recovery_factor
            if limits is not None and options.finetune_recovery_factor != usual:
                raise PolyadicError(
                    "finetune_recovery_factor is a number of times max_drop that a search without a budget may lose; "
                    "under a budget any plan within it may be found, and it is not used: leave it out, or the budget"
                )
            if options.max_drop_per_layer is not None and not search.tunes_layers:
                raise PolyadicError(
                    f"max_drop_per_layer is for searches layer by layer (bisection); {search.name} looks at whole "
                    "plans and does not use it: leave it out, or choose that search"
                )
        return Target(drop, limits, search, tuple(formats), plan)

    def of_round(self, number: int, count: int, dense: Cost) -> Target:
        """The part of the way that is to be gone by the end of round ``number`` (from 1) of ``count``.

        Every cost that is limited shrinks by the same factor in each round: ``dense (limit / dense)^(number / count)``.
        """
        if self.budget is None or number == count:
            return self
        share, limits = number / count, self.budget.limits
        between = {name: getattr(dense, name) ** (1 - share) * limit**share for name, limit in limits.items()}
        rounded: dict[str, Any] = {
            name: max(between[name] if name == "latency" else int(between[name]), limit)
            for name, limit in limits.items()
        }
        return replace(self, budget=Budget(**rounded))

    def is_met_by(self, cost: Cost) -> bool:
        """Whether nothing has to be found: a later round may begin within its budget already."""
        return self.plan is None and self.budget is not None and self.budget.admits(cost)

    def allowed_drop(self, finetune_recovery_factor: float, words: ScoreWords, dense_score: float) -> float:
        """What may be lost before fine-tuning: any number under a budget."""
        if self.budget is not None or self.max_drop is None:
            return math.inf
        return finetune_recovery_factor * self.max_drop.allowed(words, dense_score)


def _check_options(formats: Sequence[str], options: CompressOptions) -> None:
    if not options.finetune_recovery_factor > 0:
        raise PolyadicError(
            f"finetune_recovery_factor is a number of times max_drop above 0; got {options.finetune_recovery_factor}"
        )
    if options.max_drop_per_layer is not None and not 0.0 <= options.max_drop_per_layer < 100.0:
        raise PolyadicError(_not_a_drop("max_drop_per_layer", options.max_drop_per_layer))
    for name in ("trials", "candidates_per_layer", "round_to"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise PolyadicError(f"{name} is a whole number from 1 up; got {value}")
    if options.timeout is not None and not options.timeout > 0:
        raise PolyadicError(f"timeout is a number of seconds above 0; got {options.timeout:g}")
    if isinstance(formats, str):
        raise PolyadicError(f"formats are a list of names; got the text {formats!r}: write formats=[{formats!r}]")
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


def _not_a_drop(name: str, given: float | str) -> str:
    share = ", or a share of the dense score (0.5%)" if name == "max_drop" else ""
    return f"{name} is a number of points from 0 to below 100 (0.5 = half a percent){share}; got {given}"
