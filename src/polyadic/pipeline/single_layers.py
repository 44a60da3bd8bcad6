"""Try one layer by itself: decompose it, put it into the dense network, fine-tune it alone if that can decide."""

from __future__ import annotations

from typing import Any

from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Plan
from polyadic.search import Trial
from polyadic.surgery import chain_for, swap_layer


def try_out(workshop: Workshop, plan: Plan, threshold: float) -> tuple[Trial, dict[str, Any]]:
    """Replace the one layer of ``plan`` in the dense network and score; what the log shall know of it.

    Fine-tuning keeps the best state, the first one included, so a layer that passes without it passes with it: it is
    done only where it can change the verdict.

    Args:
        workshop: the network on its bench.
        plan: of one choice.
        threshold: EPS, in points.
    """
    (choice,) = plan.choices
    site, bench = workshop.sites[choice.layer], workshop.bench
    factored = workshop.kernels.alone(choice)
    chain = chain_for(bench.get_submodule(choice.layer), factored)
    with swap_layer(bench, site, chain):
        before = after = workshop.drop(bench)
        wanting = not before <= threshold  # NaN is wanting too
        if wanting and workshop.task.tune_layer(bench, chain.parameters(), workshop.dense):
            after = workshop.drop(bench)
    details = {
        "threshold": threshold,
        "drop_before_finetuning": before,
        "relative_error": factored.relative_error,
        "weighted_error": factored.weighted_error,
        "sensitivity": factored.sensitivity,
        "macs": site.chain_macs(factored.stages),
    }
    return Trial(plan, after, final=wanting), details
