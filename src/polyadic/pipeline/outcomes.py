"""What becomes of each layer, and why; where and with what a run ran."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from polyadic.formats import FactoredKernel, format_named
from polyadic.pipeline.options import CompressOptions
from polyadic.pipeline.target import Target
from polyadic.schema import Choice, LayerEstimate, LayerOutcome, LayerSite, Plan, plain_rank
from polyadic.search import SearchSpace
from polyadic.surgery import matches_any


def layer_outcome(
    site: LayerSite, kernel: FactoredKernel | None, target: Target, space: SearchSpace, options: CompressOptions
) -> LayerOutcome:
    """What happened to a layer and why; ``kernel`` is what took its place, if anything did."""
    if kernel is None:
        status, reason = why_dense(site, target, space, options)
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


def estimate_layers(
    plan: Plan, layers: Iterable[LayerSite], target: Target, space: SearchSpace, options: CompressOptions
) -> tuple[LayerEstimate, ...]:
    """What ``plan`` does to each layer, before it is carried out."""
    return tuple(_estimate_layer(site, plan, target, space, options) for site in layers)


def _estimate_layer(
    site: LayerSite, plan: Plan, target: Target, space: SearchSpace, options: CompressOptions
) -> LayerEstimate:
    choice = plan.of(site.name)
    if choice is None:
        status, reason = why_dense(site, target, space, options)
        before = _dense_time(site, space)
        return LayerEstimate(
            site.name, site.macs, site.macs, reason=reason, supported=status == "dense", latency_before=before
        )
    candidates = space.candidates_for(choice)
    before, after, measured = _times(choice, space)
    return LayerEstimate(
        site.name,
        site.macs,
        candidates.macs[candidates.position(choice)],
        choice.format,
        plain_rank(choice.rank),
        latency_before=before,
        latency_after=after,
        latency_measured=measured,
    )


def _dense_time(site: LayerSite, space: SearchSpace) -> float | None:
    """Milliseconds of a layer that was timed."""
    all_candidates = space.by_layer().get(site.name, ())
    return all_candidates[0].dense_time if all_candidates and all_candidates[0].times else None


def _times(choice: Choice, space: SearchSpace) -> tuple[float | None, float | None, bool | None]:
    """Milliseconds of a layer and of what replaces it, and whether the latter was measured."""
    candidates = space.candidates_for(choice)
    if not candidates.times:
        return None, None, None
    at = candidates.position(choice)
    return candidates.dense_time, candidates.times[at], candidates.measured[at]


def why_dense(
    site: LayerSite, target: Target, space: SearchSpace, options: CompressOptions
) -> tuple[Literal["dense", "unsupported"], str]:
    """Why nothing took the place of a layer, and whether anything could have."""
    if site.reason is not None or site.spec is None:
        return "unsupported", site.reason or "its geometry is unknown"
    if target.plan is not None:
        return "dense", "the plan does not name it"
    if matches_any(site.name, options.exclude):
        return "dense", "excluded"
    refusals = [format_named(name).refuses(site.spec) for name in target.formats]
    if all(refusals):
        return "unsupported", "; ".join(dict.fromkeys(filter(None, refusals)))
    if site.name in space.refused:
        return "dense", space.refused[site.name]
    if site.name not in space.by_layer():
        return "dense", "no rank of the given formats makes it cheaper"
    if target.search.tunes_layers:
        return "dense", f"no cheaper rank that was tried lost at most {space.in_unit(space.threshold)}"
    return "dense", f"the {target.search.name} search left it so"
