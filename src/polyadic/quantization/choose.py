"""Which recipe: the one whose answers are nearest to the float network's, on what gave no ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from polyadic.engines import Conditions
from polyadic.quantization.judges import Judge, OnEngine, Verdict
from polyadic.quantization.quantizer import Artefact, End, QuantizeOptions, Quantizer, QuantizerSession, Recipe

_ENDS: tuple[tuple[End, ...], ...] = (("last",), ("first",), ("first", "last"))


@dataclass(frozen=True)
class RecipeTrial:
    """A recipe that was tried, and what came of it."""

    recipe: Recipe
    bytes: int
    verdict: Verdict


def choose_recipe(
    quantizer: Quantizer,
    session: QuantizerSession,
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

    def judge_recipe(recipe: Recipe) -> tuple[Artefact, RecipeTrial]:
        artefact = session.quantize(recipe)
        prepared = quantizer.prepare(artefact, example, Conditions(batch=len(example), precision="int8"))
        trial = RecipeTrial(recipe, artefact.bytes, judge.verdict(OnEngine(prepared, len(example))))
        trials.append(trial)
        on_trial(trial)
        return artefact, trial

    corrections = (False, True) if quantizer.corrects else (False,)
    recipes = [Recipe(method, corrected=correct) for method in quantizer.methods for correct in corrections]
    best = min((judge_recipe(recipe) for recipe in recipes), key=_divergence)
    if options.ends and quantizer.keeps_ends:
        floats = [judge_recipe(replace(best[1].recipe, kept=kept)) for kept in _ENDS]
        # fewer layers in float32 first: one end has to be beaten by as much again to give way to both
        for candidate in floats:
            if _divergence(candidate) < (1 - options.worth) * _divergence(best):
                best = candidate
    trials.remove(best[1])
    return best[0], (*trials, best[1])


def _divergence(tried: tuple[Artefact, RecipeTrial]) -> float:
    return tried[1].verdict.divergence
