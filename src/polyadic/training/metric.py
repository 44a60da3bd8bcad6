"""A score of the user's own: what it is called, its unit, which way is up, and what single samples say."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from polyadic.errors import PolyadicError
from polyadic.training.score_images import NORMAL_97_5


@runtime_checkable
class Updating(Protocol):
    """What torchmetrics calls a metric: fed with predictions and targets, batch by batch."""

    higher_is_better: bool | None

    def update(self, *args: Any) -> None:
        """Take a batch in."""
        ...

    def compute(self) -> Any:
        """The number."""
        ...

    def reset(self) -> None:
        """Forget all batches."""
        ...


@dataclass(frozen=True)
class Metric:
    """A number that says how good a network is, with its name, its unit and its direction.

    Example::

        psnr = polyadic.Metric(lambda model: set5_psnr(model), name="PSNR", unit="dB")
        result = polyadic.compress(model, loader, metric=psnr, max_drop=0.1)  # at most 0.1 dB

    Attributes:
        function: from a network in evaluation mode to one number, on samples of its own; or to a tensor of one number
            per sample, of which the mean counts and which give the drop an interval. Or a ``torchmetrics.Metric``,
            which is fed with the network's outputs and the labels of the samples that :func:`polyadic.compress` is
            given.
        name: what it is; by default the function's own, or "score".
        unit: such as "dB"; "" for a plain number. ``max_drop`` and all reports are in it. "%" says that the number is a
            fraction, such as an accuracy: reports write it in percent, and ``max_drop`` is in points, hundredths.
        higher_is_better: False for an error rate: the score then is its negative, as in scikit-learn, and is called so.
            By default what a torchmetrics.Metric says of itself, else True.

    Raises:
        PolyadicError: a torchmetrics.Metric that does not say which way is up.
    """

    function: Callable[[nn.Module], Any] | Updating
    name: str = ""
    unit: str = ""
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        given: object = self.function
        if not callable(given) or isinstance(given, type):
            kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
            advice = f": make one, {given.__name__}(...)" if isinstance(given, type) else ": pass one of these"
            raise PolyadicError(
                f"a metric is a function from a network to a number, or a torchmetrics.Metric; got {kind}{advice}"
            )
        if not self.is_fed:
            _check_takes_a_network(given)
        function: Any = self.function
        better = self.higher_is_better
        if better is None:
            better = function.higher_is_better if self.is_fed else True
        if better is None:
            raise PolyadicError(
                f"{type(function).__name__} does not say whether more of it is better: pass "
                "polyadic.Metric(metric, higher_is_better=...)"
            )
        name = self.name or (type(function).__name__ if self.is_fed else name_of(function))
        object.__setattr__(self, "higher_is_better", better)
        object.__setattr__(self, "name", name)

    @property
    def is_fraction(self) -> bool:
        """Whether it is written in percent."""
        return self.unit == "%"

    @property
    def is_fed(self) -> bool:
        """Whether it is fed with outputs and labels, and has no samples of its own."""
        return is_fed(self.function)

    @property
    def score_name(self) -> str:
        """Of the score, of which more is better."""
        return self.name if self.higher_is_better else f"negative {self.name}"

    def __call__(self, model: nn.Module) -> Tensor:
        """The score, of which more is better: of a network in evaluation mode, float64 with a value for each sample.

        A function that does not tell samples apart gives one value.

        Raises:
            PolyadicError: the function returned something that is no finite number.
        """
        with torch.no_grad():
            value = self.function(model.eval())  # type: ignore[operator]
        return self.checked(value)

    def checked(self, value: object) -> Tensor:
        """What a function returned, as a score.

        Raises:
            PolyadicError: it is no finite number.
        """
        try:
            numbers = torch.as_tensor(value).detach().cpu().double().flatten()
        except (TypeError, ValueError, RuntimeError) as error:
            raise PolyadicError(
                f"a score function returns one number, or one per sample; got {value!r} from {self.name}: return it as "
                "a float or a tensor"
            ) from error
        if not len(numbers) or not bool(numbers.isfinite().all()):
            bad = numbers[~numbers.isfinite()][0].item() if len(numbers) else "none"
            raise PolyadicError(
                f"a score function returns a finite number; got {bad} from {self.name}: let it return one for any "
                "network, for one that answers nonsense its lowest"
            )
        return numbers if self.higher_is_better else -numbers

    def named(self, name: str) -> Metric:
        """The same under another name."""
        return replace(self, name=name)


def _check_takes_a_network(function: Callable[..., Any]) -> None:
    """Refuse a metric of outputs and labels, which people have at hand.

    Raises:
        PolyadicError: it cannot be called with a network alone.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # built in, so that nothing is known of its arguments
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise PolyadicError(
            f"a metric is called with the network alone, metric(model); got {name_of(function)}{signature}: pass a "
            "function that runs the network on its own samples, or a torchmetrics.Metric, which is fed with outputs "
            "and labels"
        ) from error


def paired_interval(dense: Tensor, other: Tensor) -> tuple[float, float] | None:
    """95 % interval of the mean of ``dense - other``, sample by sample: mean -+ t sqrt(var / N).

    ``t`` is Student's with N - 1 degrees of freedom, by the expansion of Cornish and Fisher around the normal: Set5 has
    five images. Pairing pays: what both find hard adds no variance.

    Args:
        dense: (N,) the scores of the samples before.
        other: (N,) after.

    Returns:
        (low, high), a loss being above 0; None for fewer than three, or for different samples.
    """
    if dense.shape != other.shape or len(dense) < 3:
        return None
    lost, free, z = dense - other, len(dense) - 1, NORMAL_97_5
    t = (
        z
        + (z**3 + z) / (4 * free)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )
    half = t * float(lost.std()) / math.sqrt(len(lost))
    return float(lost.mean()) - half, float(lost.mean()) + half


def is_fed(value: object) -> bool:
    """Whether it is a ``torchmetrics.Metric``, or works like one."""
    return isinstance(value, nn.Module) and isinstance(value, Updating)


def as_metric(function: Callable[[nn.Module], Any] | Metric) -> Metric:
    """A function, or a torchmetrics.Metric, as a metric; one itself."""
    return function if isinstance(function, Metric) else Metric(function)


def name_of(function: Callable[..., object]) -> str:
    """What a score function is called; "score" for a lambda, which has no name of its own."""
    name = getattr(function, "__name__", "score")
    return name if name.isidentifier() else "score"
