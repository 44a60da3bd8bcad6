"""All of a compression that is not a tensor: costs, scores, what happened to each layer, warnings, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from polyadic.engines import environment
from polyadic.formats import FactoredKernel
from polyadic.pipeline.alarm import blind_warning, compare_answers, ruin_warning
from polyadic.pipeline.outcomes import layer_outcome
from polyadic.pipeline.search import Conclusion, search_provenance
from polyadic.pipeline.setup import SearchSetup
from polyadic.schema import LayerOutcome, Plan, Summary
from polyadic.surgery import MACS_CONVENTION, network_cost
from polyadic.training import FinalScores, FinetuneReport


@dataclass(frozen=True, eq=False)
class RoundResult:
    """What became of a plan.

    Attributes:
        setup: what the search began with.
        found: how it ended.
        plan: of all rounds so far.
        network: compressed and fine-tuned.
        untuned: as it came from the decomposition.
        kernels: of the layers that were decomposed.
        report: of the fine-tuning; None where there was none, or the task gave none.
        stop: how the fine-tuning ended.
        held_out: scores on the held-out images.
    """

    setup: SearchSetup
    found: Conclusion
    plan: Plan
    network: nn.Module
    untuned: nn.Module
    kernels: dict[str, FactoredKernel]
    report: FinetuneReport | None
    stop: str
    held_out: dict[str, float]

    def outcomes(self) -> dict[str, LayerOutcome]:
        """What happened to each layer; of one that this round left as it was, what the rounds before have told."""
        setup, before, outcomes = self.setup, self.setup.round.outcomes, {}
        for name, site in setup.evaluator.layers.items():
            if name in before and name not in self.kernels:
                outcomes[name] = before[name]
                continue
            outcome = layer_outcome(site, self.kernels.get(name), setup.target, self.found.space, setup.options)
            if name in before:  # what was timed now is the chain of an earlier round
                outcome = replace(outcome, latency_before=before[name].latency_before)
            outcomes[name] = outcome
        return outcomes

    def to_report(self) -> dict[str, Any]:
        """This round as plain data, for the provenance."""
        cost, latency = network_cost(self.network, self.setup.example), self.found.latency
        return {
            "budget": str(self.setup.target.budget),
            **asdict(cost if latency is None else replace(cost, latency=latency.measured)),
            "layers": [choice.layer for choice in self.found.plan.choices],
            "trials": len(self.setup.trials.trials),
            "held_out": self.held_out,
            "seconds": self.setup.clock.laps,
            **({"speed": latency.to_json()} if latency is not None else {}),
        }


def summarise(done: RoundResult, final: FinalScores) -> Summary:
    """Everything that is known of a compression, from its last round and the scores on the test images."""
    setup, task = done.setup, done.setup.evaluator.task
    cost, rounds = network_cost(done.network, setup.example), setup.round.history
    check, latency = setup.latency_check, done.found.latency
    if check is not None and latency is not None:  # timed once more: the network that goes out
        latency = check.final(latency, done.network, require_speedup=setup.options.require_speedup)
        cost = replace(cost, latency=latency.measured)
        done = replace(done, found=replace(done.found, plan=latency.plan, latency=latency))
    if setup.round.count > 1:
        rounds = (*rounds, done.to_report())
    verdict = compare_answers(task, setup.round.origin, done.network, final, setup.example)
    summary = Summary(
        dense=setup.cost,
        compressed=cost,
        dense_score=final.values[0],
        compressed_score=final.values[2],
        score_before_finetuning=final.values[1],
        score_name=task.score_name,
        score_is_fraction=task.score_is_fraction,
        judged_on=task.judged_on,
        score_unit=task.score_unit,
        max_drop=setup.max_drop,
        drop_interval=final.drop_interval,
        held_out=done.held_out,
        plan=done.plan,
        layers=tuple(done.outcomes().values()),
        seconds=_total_seconds([*(report["seconds"] for report in setup.round.history), setup.clock.laps]),
        provenance={
            **environment(),
            **task.provenance(),
            **search_provenance(setup, done.found),
            "finetuning_stop": done.stop,
            **verdict.provenance(setup.options.alarm_at),
            "finetuning": [vars(record) for record in done.report.history] if done.report is not None else [],
            "macs_convention": MACS_CONVENTION,
            **({"rounds": list(rounds)} if rounds else {}),
        },
    )
    doubt = task.doubt_of(summary.dense_score, test=True)
    first = () if doubt is None else (f"before it was compressed {doubt}",)
    return replace(
        summary,
        warnings=(
            *warnings_of(summary),
            *first,
            *(latency.warnings if latency is not None else ()),
            *blind_warning(summary.provenance, wanted=setup.options.data_aware and bool(done.plan.choices)),
        ),
    )


def warnings_of(summary: Summary) -> tuple[str, ...]:
    """What a reader must know before relying on the result."""
    held_out, known, words = summary.held_out, summary.provenance, summary.words
    warnings = [*ruin_warning(known, carried_out=True)]
    if summary.score_is_fraction and held_out["compressed"] < held_out["before_finetuning"]:
        warnings.append(
            f"fine-tuning lowered the held-out score from {100 * held_out['before_finetuning']:.2f} to "
            f"{100 * held_out['compressed']:.2f} % and was kept: the dense network scores on held-out images as on "
            "training images, so it has probably been trained on them, and they favour what was not trained since; "
            "what counts is the score on the test images"
        )
    if summary.max_drop is None:
        return tuple(warnings)
    if summary.drop > summary.max_drop:
        of = "" if words.fraction else f" of {words.name}"
        warnings.append(
            f"the compressed network lost {words.amount(summary.drop)}{of}{words.where}, more than the "
            f"{summary.max_drop:g} allowed: run again with a smaller "
            "max_drop_per_layer or more epochs of fine-tuning"
        )
    if summary.drop_interval is not None and summary.drop <= summary.max_drop < summary.drop_interval[1]:
        low, high = map(words.lost, summary.drop_interval)
        warnings.append(
            f"the {words.judged_on or 'samples'} are too few to exclude a loss above "
            f"{words.allowed(summary.max_drop)}: the 95 % interval of the drop is {low} to {high}"
        )
    return tuple(warnings)


def _total_seconds(laps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each part, over all rounds."""
    parts = dict.fromkeys(part for lap in laps for part in lap)
    return {part: round(sum(lap.get(part, 0.0) for lap in laps), 3) for part in parts}
