"""Prove plans of many layers: every layer decomposed for itself, no training, compared with the dense network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from torch import nn

from polyadic.pipeline.workshop import Workshop
from polyadic.schema import Choice, Plan
from polyadic.search import Trial
from polyadic.surgery import chain_for, recalibrate, statistics_kept, swapped
from polyadic.training import Proxy


class Prover:
    """Chains once decomposed are kept, so that a plan costs little more than the images it is looked at on."""

    def __init__(self, workshop: Workshop) -> None:
        """Decompose nothing yet."""
        self.workshop = workshop
        self.chains: dict[Choice, nn.Module] = {}

    def prove(self, plan: Plan, trials: Sequence[Trial] = ()) -> tuple[Trial, dict[str, Any]]:
        """Put a chain in the place of every layer of ``plan``; what that loses, and what the log shall know of it.

        Batch-norm statistics are taken again where several layers are replaced (PARS: Sobolev et al., 2022). Layers and
        statistics of the bench come back.

        Args:
            plan: layer, format, rank.
            trials: those so far: a plan that is hopeless beside the best of them is not looked at to the end.
        """
        workshop, several = self.workshop, len(plan.choices) > 1
        wholes = [trial.harm for trial in trials if len(trial.plan.choices) > 1] if several else []
        with ExitStack() as stack:
            for choice in plan.choices:
                chain = self._chain(choice)
                stack.enter_context(swapped(workshop.bench, workshop.sites[choice.layer], chain))
            if several:
                stack.enter_context(statistics_kept(workshop.bench))
                recalibrate(workshop.bench, workshop.batches())
            score = self._proxy(workshop.bench, min(wholes, default=math.inf))
        return Trial(plan, score.drop, joint=True, loss=score.loss), {"interval": score.interval}

    @cached_property
    def _proxy(self) -> Proxy:
        """What untuned networks are compared by."""
        return self.workshop.task.proxy(self.workshop.dense)

    def _chain(self, choice: Choice) -> nn.Module:
        if choice not in self.chains:
            layer = self.workshop.dense.get_submodule(choice.layer)
            self.chains[choice] = chain_for(layer, self.workshop.kernels.alone(choice))
        return self.chains[choice]
