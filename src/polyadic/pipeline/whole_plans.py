"""Prove plans of many layers: every layer decomposed for itself, no training, compared with the dense network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Choice, Plan
from polyadic.search import Trial
from polyadic.surgery import Statistics, chain_for, keep_statistics, measure_statistics, shift_statistics, swap_layer
from polyadic.training import Proxy

ROW_SHARE = 0.5
"""Of the images, for plans of one layer: their noise is a fraction, where losses of neighbouring ranks differ by
factors."""

SHIFT_IMAGES = 250
"""On which the shift of batch-norm statistics is measured: what the images are cancels out, so few are enough."""


class Prover:
    """Chains once decomposed are kept, so that a plan costs little more than the images it is looked at on."""

    def __init__(self, workshop: Workshop) -> None:
        """Decompose nothing yet."""
        self.workshop = workshop
        self.chains: dict[Choice, nn.Module] = {}

    def prove(self, plan: Plan, trials: Sequence[Trial] = ()) -> tuple[Trial, dict[str, Any]]:
        """Put a chain in the place of every layer of ``plan``; what that loses, and what the log shall know of it.

        Batch-norm statistics follow the features (after PARS: Sobolev et al., 2022), for one layer as for many, so that
        their losses compare. Layers and statistics of the bench come back.

        Args:
            plan: layer, format, rank.
            trials: those so far: a plan that is hopeless beside the best of them is not looked at to the end.
        """
        workshop, several = self.workshop, len(plan.choices) > 1
        wholes = [trial.loss for trial in trials if len(trial.plan.choices) > 1] if several else []
        with ExitStack() as stack:
            for choice in plan.choices:
                chain = self._chain(choice)
                stack.enter_context(swap_layer(workshop.bench, workshop.sites[choice.layer], chain))
            stack.enter_context(keep_statistics(workshop.bench))
            shift_statistics(workshop.bench, self._batches, self._statistics)
            least = min(wholes, default=math.inf)
            score = self._proxy(workshop.bench, least, 1.0 if several else ROW_SHARE)
        return Trial(plan, score.drop, joint=True, divergence=score.divergence), {"interval": score.interval}

    @cached_property
    def _batches(self) -> list[Tensor]:
        """A few unlabelled batches."""
        taken: list[Tensor] = []
        for batch in self.workshop.batches():
            taken.append(batch)
            if sum(map(len, taken)) >= SHIFT_IMAGES:
                break
        return taken

    @cached_property
    def _statistics(self) -> Statistics:
        """What the batch norms of the dense network see there."""
        return measure_statistics(self.workshop.dense, self._batches)

    @cached_property
    def _proxy(self) -> Proxy:
        """What untuned networks are compared by."""
        return self.workshop.task.proxy(self.workshop.dense)

    def _chain(self, choice: Choice) -> nn.Module:
        if choice not in self.chains:
            layer = self.workshop.dense.get_submodule(choice.layer)
            self.chains[choice] = chain_for(layer, self.workshop.kernels.alone(choice))
        return self.chains[choice]
