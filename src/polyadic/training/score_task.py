"""A network that is scored by a function of the user and never trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.schema import points
from polyadic.training.options import EpochRecord
from polyadic.training.proxy import Proxy, ProxyScore
from polyadic.training.task import FinalScores, Task


@final
@dataclass(frozen=True)
class ScoreTask(Task):
    """A score function of the user, such as ``lambda model: -perplexity(model)``. Nothing is trained.

    Attributes:
        function: from a model in evaluation mode to its score, higher is better; a drop of 1 point is 0.01 of it.
        name: what it is.
    """

    function: Callable[[nn.Module], float]
    name: str = "score"

    @property
    def score_name(self) -> str:
        """As the user called it."""
        return self.name

    def example_input(self) -> None:
        """Unknown."""
        return

    def score(self, model: nn.Module) -> float:
        """The user's score.

        Raises:
            PolyadicError: the function returned something that is no finite number.
        """
        with torch.no_grad():
            value = self.function(model.eval())
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise PolyadicError(f"a score function returns one number; got {value!r}") from error
        if number != number or number in (float("inf"), float("-inf")):
            raise PolyadicError(f"a score function returns a finite number; got {number}")
        return number

    def proxy(self, dense: nn.Module) -> Proxy:
        """The score itself."""
        reached = self.score(dense)

        def lost(model: nn.Module, best: float = math.inf, share: float = 1.0, /) -> ProxyScore:
            return ProxyScore(points(reached, self.score(model)))

        return lost

    def tune_layer(self, model: nn.Module, parameters: Iterable[nn.Parameter], teacher: nn.Module) -> bool:
        """Nothing to train with."""
        return False

    def tune_network(
        self,
        model: nn.Module,
        teacher: nn.Module,
        on_epoch: Callable[[EpochRecord, int], None],
        checkpoint: Path | None,
    ) -> None:
        """Nothing to train with."""
        return

    def calibration_batches(self) -> Iterable[Tensor]:
        """None."""
        return ()

    def final_scores(self, models: Sequence[nn.Module]) -> FinalScores:
        """The same function: there is no other."""
        return FinalScores(tuple(self.score(model) for model in models), None)

    def provenance(self) -> dict[str, object]:
        """The function's name."""
        return {"score_function": getattr(self.function, "__qualname__", repr(self.function))}
