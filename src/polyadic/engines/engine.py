"""The interface of an engine, which runs a trained network and says why where it cannot."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from polyadic.engines.refused_layer import refused_layer
from polyadic.errors import EngineError
from polyadic.schema import Conditions, NumberFormat


class Prepared(ABC):
    """A network that an engine has made ready."""

    @abstractmethod
    def answer(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The network's outputs in float32 on the CPU, for inputs of the example's shapes."""

    @abstractmethod
    def once(self) -> None:
        """One pass over the example; it has ended when this returns, and its outputs are thrown away."""


class Engine(ABC):
    """One way to run a network."""

    @property
    @abstractmethod
    def name(self) -> str:
        """On the command line."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """How images lie in memory, as far as the engine is told: NCHW, NHWC, or "its own"."""

    @abstractmethod
    def missing(self) -> str | None:
        """What is not there, with the command that installs it; None where the engine can be used."""

    @abstractmethod
    def refuses(self, conditions: Conditions) -> str | None:
        """Why it cannot run under these conditions, in one sentence; None where it can."""

    @property
    def takes_layers_alone(self) -> bool:
        """Whether a network that it fails on is searched for the layer, each tried by itself: about a second a kind."""
        return True

    @abstractmethod
    def _prepare(self, model: nn.Module, example: tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        """Make a network in evaluation mode ready; whatever the engine itself raises may leave."""

    @property
    def version(self) -> str:
        """Of the engine's package."""
        return torch.__version__

    def prepare(self, model: nn.Module, example: Tensor | tuple[Tensor, ...], conditions: Conditions) -> Prepared:
        """``model`` on this engine, in evaluation mode; the model itself is left as it was.

        Args:
            model: any module of tensors in, tensors out.
            example: its inputs, the first dimension of each being ``conditions.batch``.
            conditions: under which it is to run.

        Raises:
            EngineError: the engine is missing, refuses the conditions, or cannot run this network; then with the layer
                that is in the way, where one is by itself.
        """
        inputs = (example,) if isinstance(example, Tensor) else example
        self.check(conditions)
        if any(tensor.shape[0] != conditions.batch for tensor in inputs):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise EngineError(f"an example holds {conditions.batch} samples, as its conditions say; got {shapes}")
        with self.at_work(lambda: self.culprit_in(model, inputs, conditions)):
            return self._prepare(model, inputs, conditions)

    def culprit_in(self, model: nn.Module, example: tuple[Tensor, ...], conditions: Conditions) -> str:
        """The layer of ``model`` that the engine does not run by itself, and what to do; else "this network"."""
        if not self.takes_layers_alone:
            return "this network"

        def attempt(alone: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._prepare(alone, inputs, replace(conditions, batch=len(inputs[0]))).once()

        layer = refused_layer(model, example, attempt)
        return "this network" if layer is None else f"{layer} (leave this engine out, or write that layer otherwise)"

    @contextlib.contextmanager
    def at_work(self, culprit: Callable[[], str] | None = None) -> Iterator[None]:
        """Where the engine's own code runs on a network, without gradients.

        Args:
            culprit: what it does not run, asked once something has failed; "this network" where nobody knows more.

        Raises:
            EngineError: whatever the engine raised, in one sentence.
        """
        try:
            with torch.no_grad():
                yield
        except EngineError:
            raise
        except Exception as error:  # whatever a stranger's compiler raises
            what = "this network" if culprit is None else culprit()
            raise EngineError(
                f"{self.name} does not run {what}: {type(error).__name__}: {first_line(error)}"
            ) from error

    def usual_precisions(self, device: str) -> tuple[NumberFormat, ...]:
        """In which number formats its times are of interest where nobody asked for others."""
        return ("float32",)

    def check(self, conditions: Conditions) -> None:
        """Say whether the engine can be used so.

        Raises:
            EngineError: it is missing or refuses the conditions.
        """
        reason = self.missing() or self.refuses(conditions)
        if reason is not None:
            raise EngineError(f"{self.name}: {reason}")


def tensors_of(output: object) -> tuple[Tensor, ...]:
    """All tensors of a network's output, in order: of a tensor, or of tuples, lists and mappings of such."""
    if isinstance(output, Tensor):
        return (output,)
    if isinstance(output, Mapping):
        return tuple(tensor for value in output.values() for tensor in tensors_of(value))
    if isinstance(output, Sequence) and not isinstance(output, str):
        return tuple(tensor for value in output for tensor in tensors_of(value))
    return ()


def arrays_of(tensors: tuple[Tensor, ...]) -> list[Any]:
    """The same numbers for engines that take numpy's arrays."""
    return [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]


def installed_version(*packages: str) -> str:
    """Of the first of the packages that is installed."""
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return "not installed"


def first_line(error: BaseException) -> str:
    """Of what an exception says; strangers' exceptions say much, and begin with their own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    told = [line for line in lines if line.startswith("Unsupported") or "onversion is failed for" in line]
    told = told or [line for line in lines if not line.startswith(("Exception from", "Check '"))] or lines
    return "; ".join(told[:2]).removeprefix("-- ") if told[0].startswith(("Unsupported", "--")) else told[0]


@contextlib.contextmanager
def silence(*loggers: str) -> Iterator[None]:
    """Where a library prints, warns and logs of its own insides, which is not for our users.

    Args:
        loggers: names of those that then tell errors alone; "" is the root of all.
    """
    levels = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
