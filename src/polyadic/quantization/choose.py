"""Which recipe: the one whose answers are nearest to the float network's, on held-out training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from polyadic.engines import Conditions
from polyadic.quantization.judge import Judge, OnEngine, Verdict
from polyadic.quantization.options import End, QuantizeOptions, Recipe
from polyadic.quantization.quantizer import Artefact, Bench, Quantizer

_ENDS: tuple[tuple[End, ...], ...] = (("last",), ("first",), ("first", "last"))


@dataclass(frozen=True)
class RecipeTrial:
    """A recipe that was tried, and what came of it."""

    recipe: Recipe
    bytes: int
    verdict: Verdict


def choose_recipe(
    quantizer: Quantizer,
    bench: Bench,
    judge: Judge,
    example: Tensor,
    options: QuantizeOptions,
    on_trial: Callable[[RecipeTrial], None],
) -> tuple[Artefact, tuple[RecipeTrial, ...]]:
    """The best of all methods, biases corrected and not; then, with it, the ends in float32 where that saves enough.

    Returns:
        The files of the recipe that was chosen, and all trials; the chosen one is the last.
    """
    trials: list[RecipeTrial] = []

    def tried(recipe: Recipe) -> tuple[Artefact, RecipeTrial]:
        artefact = bench.quantized(recipe)
        prepared = quantizer.prepared(artefact, example, Conditions(batch=len(example), precision="int8"))
        trial = RecipeTrial(recipe, artefact.bytes, judge.verdict(OnEngine(prepared, len(example))))
        trials.append(trial)
        on_trial(trial)
        return artefact, trial

    corrections = (False, True) if quantizer.corrects else (False,)
    recipes = [Recipe(method, corrected=correct) for method in quantizer.methods for correct in corrections]
    best = min((tried(recipe) for recipe in recipes), key=_divergence)
    if options.ends and quantizer.keeps_ends:
        floats = [tried(replace(best[1].recipe, kept=kept)) for kept in _ENDS]
        # fewer layers in float32 first: one end has to be beaten by as much again to give way to both
        for candidate in floats:
            if _divergence(candidate) < (1 - options.worth) * _divergence(best):
                best = candidate
    trials.remove(best[1])
    return best[0], (*trials, best[1])


def _divergence(tried: tuple[Artefact, RecipeTrial]) -> float:
    return tried[1].verdict.divergence
