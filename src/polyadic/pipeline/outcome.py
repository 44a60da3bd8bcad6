"""What is said of a run when it is over: one outcome per layer, warnings, where and with what it ran."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from polyadic.formats import FactoredKernel, format_named
from polyadic.schema import LayerOutcome, LayerSite, Plan, Summary, plain_rank
from polyadic.search import Problem

MACS_CONVENTION = "1 MAC = one multiply-accumulate of a convolution or matrix product; FLOPs = 2 x MACs; one sample"


def outcome_of(
    site: LayerSite, plan: Plan, problem: Problem, kernels: dict[str, FactoredKernel], formats: Sequence[str]
) -> LayerOutcome:
    """What happened to a layer and why."""
    if plan.of(site.name) is not None:
        kernel = kernels[site.name]
        return LayerOutcome(
            site.name,
            "factorised",
            kernel.stop,
            site.macs,
            site.chain_macs(kernel.stages),
            kernel.format,
            plain_rank(kernel.rank),
            kernel.relative_error,
            kernel.weighted_error,
            kernel.sensitivity,
            kernel.intensity_ratio,
        )
    if site.reason is not None:
        return LayerOutcome(site.name, "unsupported", site.reason, site.macs, site.macs)
    if any(ladder.layer == site.name for ladder in problem.ladders):
        reason = f"no rank that is cheaper lost at most {problem.threshold:g} points"
        return LayerOutcome(site.name, "dense", reason, site.macs, site.macs)
    refusals = [format_named(name).refuses(site.spec) for name in formats] if site.spec is not None else []
    if all(refusals):
        reason = "; ".join(dict.fromkeys(filter(None, refusals)))
        return LayerOutcome(site.name, "unsupported", reason, site.macs, site.macs)
    reason = "excluded, or no rank of the given formats makes it cheaper"
    return LayerOutcome(site.name, "dense", reason, site.macs, site.macs)


def warnings_of(summary: Summary) -> tuple[str, ...]:
    """What a reader must know before relying on the result."""
    warnings = []
    if summary.drop > summary.max_drop:
        warnings.append(
            f"the compressed network lost {summary.drop:.2f} points on the test images, more than the "
            f"{summary.max_drop:g} allowed: run again with a smaller eps or more epochs of fine-tuning"
        )
    if summary.drop_interval is not None and summary.drop <= summary.max_drop < summary.drop_interval[1]:
        warnings.append(
            f"the test set is too small to exclude a loss above {summary.max_drop:g} points: the 95 % interval of the "
            f"drop is {summary.drop_interval[0]:.2f} to {summary.drop_interval[1]:.2f}"
        )
    return tuple(warnings)


def environment() -> dict[str, Any]:
    """Versions and machine."""
    try:
        own = version("polyadic")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "polyadic": own,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }
