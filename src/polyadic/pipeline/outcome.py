"""What is said of a run when it is over: one outcome per layer, warnings, where and with what it ran."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import torch

from polyadic.formats import FactoredKernel, format_named
from polyadic.pipeline.all_candidates import is_excluded
from polyadic.pipeline.options import CompressOptions, LayerEstimate
from polyadic.pipeline.space import Request
from polyadic.schema import Choice, LayerOutcome, LayerSite, Plan, Summary, plain_rank
from polyadic.search import SearchSpace


def outcome_of(
    site: LayerSite, kernel: FactoredKernel | None, request: Request, space: SearchSpace, options: CompressOptions
) -> LayerOutcome:
    """What happened to a layer and why; ``kernel`` is what took its place, if anything did."""
    if kernel is None:
        status, reason = why_dense(site, request, space, options)
        return LayerOutcome(site.name, status, reason, site.macs, site.macs, latency_before=_dense_time(site, space))
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
        *_times(Choice(site.name, kernel.format, kernel.rank), space),
    )


def planned_layer(
    site: LayerSite, plan: Plan, request: Request, space: SearchSpace, options: CompressOptions
) -> LayerEstimate:
    """What ``plan`` does to a layer, before it is carried out."""
    choice = plan.of(site.name)
    if choice is None:
        status, reason = why_dense(site, request, space, options)
        before = _dense_time(site, space)
        return LayerEstimate(
            site.name, site.macs, site.macs, reason=reason, supported=status == "dense", latency_before=before
        )
    candidates = space.candidates(choice)
    after = candidates.macs[candidates.position(choice)]
    before_ms, after_ms, measured = _times(choice, space)
    return LayerEstimate(
        site.name,
        site.macs,
        after,
        choice.format,
        plain_rank(choice.rank),
        latency_before=before_ms,
        latency_after=after_ms,
        latency_measured=measured,
    )


def _dense_time(site: LayerSite, space: SearchSpace) -> float | None:
    """Milliseconds of a layer that was timed."""
    all_candidates = space.by_layer().get(site.name, ())
    return all_candidates[0].dense_time if all_candidates and all_candidates[0].times else None


def _times(choice: Choice, space: SearchSpace) -> tuple[float | None, float | None, bool | None]:
    """Milliseconds of a layer and of what replaces it, and whether the latter was measured."""
    candidates = space.candidates(choice)
    if not candidates.times:
        return None, None, None
    at = candidates.position(choice)
    return candidates.dense_time, candidates.times[at], candidates.measured[at]


def why_dense(
    site: LayerSite, request: Request, space: SearchSpace, options: CompressOptions
) -> tuple[Literal["dense", "unsupported"], str]:
    """Why nothing took the place of a layer, and whether anything could have."""
    if site.reason is not None or site.spec is None:
        return "unsupported", site.reason or "its geometry is unknown"
    if request.plan is not None:
        return "dense", "the plan does not name it"
    if is_excluded(site.name, options.exclude):
        return "dense", "excluded"
    refusals = [format_named(name).refuses(site.spec) for name in request.formats]
    if all(refusals):
        return "unsupported", "; ".join(dict.fromkeys(filter(None, refusals)))
    if site.name in space.refused:
        return "dense", space.refused[site.name]
    if site.name not in space.by_layer():
        return "dense", "no rank of the given formats makes it cheaper"
    if request.search.tunes_layers:
        return "dense", f"no cheaper rank that was tried lost at most {space.threshold:g} points"
    return "dense", f"the {request.search.name} search left it so"


def warnings_of(summary: Summary) -> tuple[str, ...]:
    """What a reader must know before relying on the result."""
    warnings: list[str] = []
    held_out = summary.held_out
    if held_out["compressed"] < held_out["before_finetuning"]:
        warnings.append(
            f"fine-tuning lowered the held-out score from {100 * held_out['before_finetuning']:.2f} to "
            f"{100 * held_out['compressed']:.2f} % and was kept: the dense network scores on held-out images as on "
            "training images, so it has probably been trained on them, and they favour what was not trained since; "
            "what counts is the score on the test images"
        )
    if summary.max_drop is None:
        return tuple(warnings)
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
