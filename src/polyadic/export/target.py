"""The interface of a file format that other programs run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from polyadic.export.export_source import ExportSource

Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
"""A pass through a file that was opened: inputs to outputs, float32 on the CPU."""


class Target(ABC):
    """One format of files that hold a network and the order of its operations."""

    @property
    @abstractmethod
    def name(self) -> str:
        """On the command line."""

    @property
    @abstractmethod
    def suffixes(self) -> tuple[str, ...]:
        """Of its files; the first is the one that is named, the others lie beside it."""

    @property
    @abstractmethod
    def engine(self) -> str:
        """What runs the file here, with its version."""

    @abstractmethod
    def missing(self) -> str | None:
        """What is not installed, with the command that installs it; None where files can be written and run."""

    @abstractmethod
    def write(self, source: ExportSource, path: Path) -> None:
        """Write a network to ``path``, which has the first suffix, with the first dimension of all inputs free."""

    @abstractmethod
    def opened(self, path: Path) -> Run:
        """The file at ``path``, ready to run on one thread of the processor in float32."""

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files that belong to ``path``."""
        return tuple(path.with_suffix(suffix) for suffix in self.suffixes)
