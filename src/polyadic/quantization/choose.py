"""Which recipe: the one whose answers are nearest to the float network's, on held-out training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polyadic.data import ImageData
from polyadic.engines import Conditions, Prepared
from polyadic.layers import evaluation_mode
from polyadic.quantization.quantizer import Artefact, End, QuantizeOptions, Quantizer, QuantizerSession, Recipe

_ENDS: tuple[tuple[End, ...], ...] = (("last",), ("first",), ("first", "last"))


class OnEngine(nn.Module):
    """A prepared network as a module of one tensor; batches smaller than the engine's are filled up and cut again."""

    def __init__(self, prepared: Prepared, batch: int) -> None:
        super().__init__()
        self._prepared = prepared
        self._batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, ...) with n up to the engine's batch to the first output (n, ...)."""
        missing = self._batch - len(x)
        filled = torch.cat([x, x[:1].expand(missing, *x.shape[1:])]) if missing else x
        return self._prepared.answer(filled)[0][: len(x)]


@dataclass(frozen=True)
class Verdict:
    """What a quantized network is on held-out training images.

    Attributes:
        accuracy: fraction of them.
        divergence: mean Kullback-Leibler divergence from the float network's answers, in nats; it tells recipes apart
            where their accuracies differ by chance.
    """

    accuracy: float
    divergence: float


class Judge:
    """Compares quantized networks with the one they were made from, on held-out training images."""

    def __init__(self, network: nn.Module, data: ImageData, count: int, batch: int) -> None:
        """Run ``network`` once over the first ``count`` held-out images."""
        images = data.held_out
        self._labels = images.labels[:count]
        index = torch.split(torch.arange(len(self._labels)), batch)
        self._batches: Sequence[Tensor] = [data.normalise(images.images(part)) for part in index]
        self._wanted = self._log_probabilities(network)

    def verdict(self, network: nn.Module) -> Verdict:
        """Of a network on the same images."""
        log_q, log_p = self._log_probabilities(network), self._wanted
        divergence = (log_p.exp() * (log_p - log_q)).sum(1)
        accuracy = (log_q.argmax(1) == self._labels).double().mean()
        return Verdict(float(accuracy), float(divergence.mean()))

    def _log_probabilities(self, network: nn.Module) -> Tensor:
        with torch.no_grad(), evaluation_mode(network):
            return torch.cat([network(batch).double().log_softmax(1) for batch in self._batches])


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
