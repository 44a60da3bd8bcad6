"""The first screen of a page: what it cost and what it lost, and what that amounts to, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from polyadic.reporting.chart import Table, finite
from polyadic.reporting.loss_words import held_out_words
from polyadic.schema import Budget, Cost, CostEstimate, ScoreWords, SearchResult, Summary

TextRows = list[tuple[str, ...]]
Card = tuple[str, str, str]
"""What it is called, the figure that counts, and more of it."""

HEADLINE_COLUMNS = ("", "dense", "compressed", "change")
_PLAN_COLUMNS = ("", "dense", "with the plan", "change")


@dataclass(frozen=True)
class Assessment:
    """``sentence`` says what a result amounts to, ``tone`` whether it is good news."""

    tone: Literal["good", "doubtful", "bad", "open"]
    sentence: str


@dataclass(frozen=True)
class Headline:
    """Cards, assessments, and the table that says the same."""

    cards: list[Card]
    assessments: list[Assessment]
    table: Table


def result_headline(summary: Summary) -> Headline:
    """That of a compression."""
    interval, words = "", summary.words
    if summary.drop_interval is not None:
        low, high = (words.amount(bound).removesuffix(" points") for bound in summary.drop_interval)
        interval = f", 95 %: {low} to {high}"
    reached = words.said(summary.compressed_score)
    change = f"was {words.said(summary.dense_score)}; drop {words.amount(summary.drop)}{interval}"
    if summary.is_of_own_loop and not math.isfinite(summary.drop):
        reached = reached if math.isfinite(summary.compressed_score) else "not known"
        change = "what was lost is not known"
    score = (summary.score_name, reached, change)
    cards = [score, *_cost_cards(summary.dense, summary.compressed, "after")]
    return Headline(cards, assess(summary), Table(HEADLINE_COLUMNS, tuple(headline_rows(summary))))


def search_headline(result: SearchResult) -> Headline:
    """That of a plan that was found, and not carried out."""
    drop, dense = finite(result.tried.drop), finite(result.dense_score)
    words, held_out = result.words, held_out_words(result.provenance)
    lost = (
        f"{words.name} lost before fine-tuning",
        "not a number" if drop is None else words.amount(drop),
        f"on {held_out}" + ("" if dense is None else f", of {words.said(dense)} for the dense network"),
    )
    cards = [lost, *_cost_cards(result.dense, result.tried.cost, "with the plan")]
    kept = assess_budget(result.provenance, result.tried.cost)
    said = [kept] if kept is not None else []
    if result.max_drop is not None:
        sentence = (
            f"Open: {words.allowed(result.max_drop)} may be lost after fine-tuning. Nothing was carried out yet, and "
            "nothing was read that is kept for the end; polyadic compress --plan tells."
        )
        said.append(Assessment("open", sentence))
    elif kept is None:
        said.append(Assessment("open", "No drop and no budget is on record, so there is nothing to hold the plan to."))
    return Headline(cards, said, Table(_PLAN_COLUMNS, tuple(cost_rows(result.dense, result.tried.cost))))


def estimate_headline(estimate: CostEstimate) -> Headline:
    """That of a plan of which only the costs are known."""
    open_ = Assessment("open", "Nothing was tried: what the plan does to the answers, search and compress tell.")
    cards = _cost_cards(estimate.dense, estimate.cost, "with the plan")
    return Headline(cards, [open_], Table(_PLAN_COLUMNS, tuple(cost_rows(estimate.dense, estimate.cost))))


def headline_rows(summary: Summary) -> TextRows:
    """Score and costs of both networks, under :data:`HEADLINE_COLUMNS`."""
    interval, words, scores = "", summary.words, (summary.dense_score, summary.compressed_score)
    own_loop = summary.is_of_own_loop  # there a score may be unknown, and that before the training always is
    if summary.drop_interval is not None:
        worst, best = (words.change(bound).removesuffix(" points") for bound in reversed(summary.drop_interval))
        interval = f" (95 %: {worst} to {best})"
    score = (
        words.label(summary.score_name),
        *(words.number(score) if math.isfinite(score) or not own_loop else "not known" for score in scores),
        f"{words.change(summary.drop)}{interval}" if math.isfinite(summary.drop) or not own_loop else "",
    )
    untuned = (words.label("before fine-tuning"), "", words.number(summary.score_before_finetuning), "")
    return [score, *([] if own_loop else [untuned]), *cost_rows(summary.dense, summary.compressed)]


def cost_rows(dense: Cost, small: Cost) -> TextRows:
    """MACs, parameters, bytes and, where both are known, latency: of the one, of the other, and how many times less."""
    rows: TextRows = [
        (label, f"{before:,}", f"{after:,}", fewer(before, after))
        for label, before, after in (
            ("MACs", dense.macs, small.macs),
            ("parameters", dense.params, small.params),
            ("bytes in memory", dense.bytes, small.bytes),
        )
    ]
    if dense.latency and small.latency:
        change = f"{dense.latency / small.latency:.2f}x faster"
        rows.append(("milliseconds of a pass", f"{dense.latency:.3g}", f"{small.latency:.3g}", change))
    return rows


def fewer(before: int, after: int) -> str:
    """Say "2.34x fewer", or what else is true."""
    if before == after:
        return "unchanged"
    if before <= 0 or after <= 0:  # no network costs nothing; a damaged file may say so
        return f"{before:,} to {after:,}"
    return f"{before / after:.2f}x fewer" if before > after else f"{after / before:.2f}x more"


def assess(summary: Summary) -> list[Assessment]:
    """On the drop and on the budget, each where it was asked for; one that says so where neither was."""
    made = (_assess_drop(summary), assess_budget(summary.provenance, summary.compressed))
    said = [one for one in made if one is not None]
    return said or [Assessment("open", "No drop and no budget was given, so there is nothing to hold the result to.")]


def assess_budget(provenance: Mapping[str, Any], cost: Cost) -> Assessment | None:
    """Whether the limits that the run was given are kept; None where it was given none."""
    written = str(provenance.get("budget") or "")
    limits = Budget.from_text(written).limits
    if not limits:
        return None
    known = {name: getattr(cost, name) for name in limits}
    over = [name for name, limit in limits.items() if known[name] is not None and known[name] > limit]
    if over:
        return Assessment("bad", f"Over budget in {', '.join(over)}: {written} was asked for.")
    if None in known.values():
        return Assessment("open", f"Not known: {written} was asked for, and the time of a pass is not on record.")
    return Assessment("good", f"Within the budget: {written}.")


def _assess_drop(summary: Summary) -> Assessment | None:
    if summary.max_drop is None:
        return None
    words = summary.words
    allowed, lost, where = words.allowed(summary.max_drop), _lost(summary.drop, words), words.where
    if not math.isfinite(summary.drop):
        return Assessment("bad", f"Broken: the score is not a number. {allowed} might be lost.")
    low, high = summary.drop_interval or (summary.drop, summary.drop)
    if summary.drop > summary.max_drop:
        doubt = (
            "" if low > summary.max_drop else " On other samples it might still be within: the interval reaches there."
        )
        return Assessment("bad", f"Over the limit: {lost}{where}, more than the {allowed} allowed.{doubt}")
    if summary.drop_interval is None:
        if not words.fraction and summary.judged_on is None:
            return Assessment("good", f"Kept: {lost}, {allowed} allowed, by the function that chose the ranks too.")
        return Assessment("good", f"Kept: {lost}, {allowed} allowed. How certain that is was not measured.")
    if high > summary.max_drop:
        return Assessment(
            "doubtful",
            f"Kept as measured: {lost}{where}, {allowed} allowed. There are too few of them to exclude a "
            f"larger loss than that: the 95 % interval goes up to {words.amount(high)}.",
        )
    return Assessment("good", f"Kept: {lost}{where}, {allowed} allowed, and the whole 95 % interval is within.")


def _cost_cards(dense: Cost, small: Cost, after: str) -> list[Card]:
    return [
        ("latency", change, f"{before} ms before, {now} ms {after}")
        if label == "milliseconds of a pass"
        else (label, change, f"{before} before, {now} {after}")
        for label, before, now, change in cost_rows(dense, small)
    ]


def _lost(drop: float, words: ScoreWords) -> str:
    if drop == 0:
        return "nothing lost"
    amount = words.amount(abs(drop)) if words.fraction else f"{words.amount(abs(drop))} of {words.name}"
    return f"{amount} {'lost' if drop > 0 else 'gained'}"
