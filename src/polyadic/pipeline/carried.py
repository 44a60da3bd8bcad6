"""From a plan to a fine-tuned network; and a whole round of that, which leaves what the next one begins with."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from polyadic.formats import FactoredKernel
from polyadic.pipeline.options import CompressOptions, OnProgress, Progress
from polyadic.pipeline.outcome import outcome_of
from polyadic.pipeline.reach import Reached
from polyadic.pipeline.rounds import Round
from polyadic.pipeline.run import Judge, Run
from polyadic.pipeline.space import Asked
from polyadic.pipeline.together import factorised
from polyadic.schema import LayerOutcome, Plan
from polyadic.storage import remove_partial
from polyadic.surgery import network_cost
from polyadic.training import FinetuneReport
from polyadic.training.snapshot import Checkpoint

CHECKPOINT, NETWORK = ".finetune.pt", "network.pt"


@dataclass(frozen=True, eq=False)
class Carried:
    """What became of a plan.

    Attributes:
        reached: the end of the search.
        plan: of all rounds so far.
        network: compressed and fine-tuned.
        untuned: as it came from the decomposition.
        kernels: of the layers that were decomposed.
        report: of the fine-tuning; None where there was none.
        held_out: scores on the held-out images.
    """

    reached: Reached
    plan: Plan
    network: nn.Module
    untuned: nn.Module
    kernels: dict[str, FactoredKernel]
    report: FinetuneReport | None
    held_out: dict[str, float]

    def outcomes(self, run: Run) -> dict[str, LayerOutcome]:
        """What happened to each layer; of one that this round left as it was, what the rounds before say."""
        options, before = run.workshop.options, run.round.outcomes
        found = {}
        for name, site in run.workshop.sites.items():
            if name in before and name not in self.kernels:
                found[name] = before[name]
                continue
            outcome = outcome_of(site, self.kernels.get(name), run.request, self.reached.space, options)
            if name in before:  # what was timed now is the chain of an earlier round
                outcome = replace(outcome, latency_before=before[name].latency_before)
            found[name] = outcome
        return found

    def said(self, run: Run) -> dict[str, Any]:
        """Of a round, for the provenance."""
        cost, speed = network_cost(self.network, run.example), self.reached.speed
        return {
            "budget": str(run.request.budget),
            **asdict(cost if speed is None else replace(cost, latency=speed.measured)),
            "layers": [choice.layer for choice in self.reached.plan.choices],
            "trials": len(run.journal.trials),
            "held_out": self.held_out,
            "seconds": run.clock.laps,
            **({"speed": speed.to_json()} if speed is not None else {}),
        }


def carried_through(run: Run, reached: Reached) -> Carried:
    """Carry out the plan that was ``reached`` and fine-tune the whole, taught by the dense network.

    Raises:
        PolyadicError: a layer cannot be factorised so, a full disk.
    """
    workshop, task, work = run.workshop, run.workshop.task, run.workshop.options.work
    network, kernels = workshop.carry_out(reached.plan)
    run.clock.lap("search")
    untuned = copy.deepcopy(network)
    held_out = {"dense": run.origin_score, "before_finetuning": task.score(network)}
    plan = run.round.merged(reached.plan)
    report = None
    if plan.choices:  # the dense network goes out as it came
        report = task.tune_network(network, run.round.origin, workshop.epoch, work / CHECKPOINT if work else None)
    if report is not None:  # both scored alike
        held_out["before_finetuning"] = report.start.value
    held_out["compressed"] = report.best.value if report is not None else held_out["before_finetuning"]
    run.clock.lap("finetune")
    return Carried(reached, plan, network.eval(), untuned, kernels, report, held_out)


def next_round(
    stage: Round, judge: Judge, example: Tensor | None, asked: Asked, options: CompressOptions, show: OnProgress
) -> Round:
    """Carry ``stage`` through; where it was before, and the run is gone on with, take its end from the disk.

    Raises:
        BudgetError: no plan keeps the budget.
        PolyadicError: as :func:`carried_through`.
    """
    work = options.work / f"round-{stage.number}" if options.work is not None else None
    if work is not None and options.resume:
        remove_partial(work)
    run = Run.begin(stage, judge, example, asked, replace(options, work=work), numbered(show, stage))
    store = Checkpoint(work / NETWORK, f"{run.digest} {run.workshop.task.provenance()}") if work is not None else None
    kept = store.load() if store is not None and options.resume else None
    if kept is not None:
        return _restored(stage, kept)
    done = carried_through(run, run.reach()[0])
    outcomes = {name: known for name, known in done.outcomes(run).items() if done.plan.of(name) is not None}
    said = done.said(run)
    if store is not None:
        state = {"plan": done.plan.to_json(), "weights": dict(done.network.state_dict()), "said": said}
        store.save({**state, "outcomes": [asdict(outcome) for outcome in outcomes.values()]})
    return stage.after(done.network, done.plan, outcomes, said)


def numbered(show: OnProgress, stage: Round) -> OnProgress:
    """Progress that says of which round it is, where there are several."""
    if stage.count == 1:
        return show

    def told(progress: Progress) -> None:
        show(replace(progress, stage=f"{progress.stage} {stage.number}/{stage.count}"))

    return told


def _restored(stage: Round, kept: dict[str, Any]) -> Round:
    """The end of a round from its checkpoint."""
    plan = Plan.from_json(kept["plan"])
    network = factorised(stage.origin, plan, kept["weights"])
    outcomes = {record["name"]: LayerOutcome(**record) for record in kept["outcomes"]}
    return stage.after(network.eval(), plan, outcomes, kept["said"])
