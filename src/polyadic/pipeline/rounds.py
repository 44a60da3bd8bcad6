"""Compression in rounds: factorise a little, fine-tune, factorise further (MUSCO: Gusak et al., ICCV-W 2019).

Round k of N has the budget ``dense (limit / dense)^(k / N)`` of every cost that is limited, milliseconds included, so
that each saves the same factor. A layer that was factorised before is a layer like others: its chain is merged into the
kernel that it has learnt, which is decomposed anew at a lower rank, in any format. What a plan leaves alone keeps its
chain to the bit. So every round ends with one plan of the dense network, which names each layer once.

Where an engine was named, a chain is timed against the chain that it would replace, and every round leaves a network
that was timed as a whole and is faster than the one that it began with, or that one.

(MUSCO decomposes the core of a chain instead. For Tucker-2 that is the same, since its outer factors are orthonormal up
to a change of basis; for other formats the core does not exist, or decomposing it makes the chain longer.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import nn

from polyadic.errors import BudgetError
from polyadic.schema import LayerOutcome, LayerSite, Plan, Stage, chain_params
from polyadic.search import RankCandidates
from polyadic.surgery import check_finite, copy_model, merge, plan_stages, rebuild, unwrap_model


@dataclass(frozen=True, eq=False)
class Round:
    """One round, and what those before it have left; an ordinary compression is the first of one.

    Attributes:
        origin: the dense network as it came; it says what was lost, and teaches.
        number: from 1.
        count: of all rounds.
        network: the compressed network that the round begins with.
        plan: how that was factorised; empty before the first round.
        outcomes: what is known of the layers of ``plan``.
        history: what is reported of the rounds before.
        latency: milliseconds of ``network``, timed beside the dense one at the end of the round before; None where
            nobody has.
    """

    origin: nn.Module
    number: int
    count: int
    network: nn.Module
    plan: Plan = field(default_factory=Plan)
    outcomes: Mapping[str, LayerOutcome] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    latency: float | None = None

    @staticmethod
    def first(model: nn.Module, count: int = 1) -> Round:
        """The one that begins with the dense network, of which it takes a copy.

        Raises:
            PolyadicError: weights that are not finite.
        """
        model = unwrap_model(model)
        check_finite(model)
        dense = copy_model(model).eval()
        return Round(dense, 1, count, dense)

    @property
    def is_last(self) -> bool:
        """Whether this round ends at the budget that was asked for."""
        return self.number == self.count

    @cached_property
    def dense(self) -> nn.Module:
        """The network that the round begins with, every chain merged into one layer."""
        return merge(self.network, self.origin, self.plan) if self.plan.choices else self.origin

    @property
    def chains(self) -> dict[str, nn.Module]:
        """The chains that the rounds before have left, by layer."""
        return {choice.layer: self.network.get_submodule(choice.layer) for choice in self.plan.choices}

    @cached_property
    def stages(self) -> dict[str, tuple[Stage, ...]]:
        """The same chains in integers."""
        return plan_stages(self.origin, self.plan)

    def cheaper_than_now(
        self, all_candidates: tuple[RankCandidates, ...], layers: tuple[LayerSite, ...]
    ) -> tuple[RankCandidates, ...]:
        """The ranks that are cheaper than what stands in a layer's place already; that is what the layer costs now.

        Raises:
            BudgetError: there are none.
        """
        known, kept = {site.name: site for site in layers}, []
        for candidates in all_candidates:
            if candidates.layer in self.stages:
                chain = self.stages[candidates.layer]
                macs = known[candidates.layer].chain_macs(chain)
                cheaper = [at for at, cost in enumerate(candidates.macs) if cost < macs]
                candidates = replace(candidates.only(cheaper), dense_macs=macs, dense_params=chain_params(chain))
            if candidates.ranks:
                kept.append(candidates)
        if not kept:
            raise BudgetError(
                f"round {self.number} of {self.count} has nothing left to make smaller: all layers are at their lowest "
                "ranks; ask for fewer rounds, or for formats that go lower"
            )
        return tuple(kept)

    def whole_plan(self, plan: Plan) -> Plan:
        """``plan`` and, for layers that it leaves alone, what was chosen before; in the order of the network."""
        if not self.plan.choices:
            return plan
        chosen = {choice.layer: choice for choice in (*self.plan.choices, *plan.choices)}
        order = {name: at for at, (name, _) in enumerate(self.origin.named_modules(remove_duplicate=False))}
        return Plan(tuple(sorted(chosen.values(), key=lambda choice: order[choice.layer])))

    def next(
        self, network: nn.Module, plan: Plan, outcomes: Mapping[str, LayerOutcome], report: dict[str, Any]
    ) -> Round:
        """The round after this one.

        Args:
            network: the compressed and fine-tuned one.
            plan: of all rounds so far.
            outcomes: of the layers that the plan names.
            report: of this round, for the provenance.
        """
        named = {name: outcome for name, outcome in outcomes.items() if plan.of(name) is not None}
        history, latency = (*self.history, report), report.get("latency")
        return Round(self.origin, self.number + 1, self.count, network, plan, named, history, latency)

    def next_from(self, kept: Mapping[str, Any]) -> Round:
        """The round after this one, from the checkpoint that an interrupted run has left."""
        plan = Plan.from_json(kept["plan"])
        network = rebuild(copy_model(self.origin), plan)
        network.load_state_dict(kept["weights"])
        outcomes = {record["name"]: LayerOutcome(**record) for record in kept["outcomes"]}
        return self.next(network.eval(), plan, outcomes, kept["report"])


def check_rounds(rounds: int, budget: Sequence[str], plan: Plan | None) -> None:
    """Refuse what cannot be done in rounds.

    Raises:
        BudgetError: a number below 1; or several rounds without a budget, or with a plan.
    """
    if rounds < 1:
        raise BudgetError(f"rounds are a whole number from 1 up; got {rounds}")
    if rounds > 1 and plan is not None:
        raise BudgetError("a plan is carried out in one round: leave out the rounds, or the plan")
    if rounds > 1 and not budget:
        raise BudgetError("rounds share the way to a budget (budget=['macs=50%'], --budget macs=50%); got none")
