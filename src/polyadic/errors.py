"""The errors that Polyadic raises on purpose. Each message states the law, what came, and what to do."""

from __future__ import annotations


class PolyadicError(ValueError):
    """Something that the user gave cannot be used; nothing has been written."""


class DecompositionError(PolyadicError):
    """A tensor, a rank or a bound that no decomposition can serve."""


class LayerError(PolyadicError):
    """A layer, a plan or a model that cannot be rebuilt as asked."""


class DataError(PolyadicError):
    """Images, labels or a weights file that cannot be used."""


class BudgetError(PolyadicError):
    """No network was found that keeps what the user asked for."""


class StorageError(PolyadicError):
    """A file could not be read or written; what was there before is untouched."""


class EngineError(PolyadicError):
    """An engine that is missing, or that cannot run a network as asked."""


class QuantizationError(PolyadicError):
    """A network that cannot be brought to 8 bits as asked, or a quantizer that is missing."""


def install_hint(extras: str) -> str:
    """How packages that Polyadic does without are installed: ``extras`` are names in its project file, with commas."""
    return f"pip install 'polyadic[{extras}]' (in a checkout of it: pip install -e '.[{extras}]')"


def first_words(error: Exception) -> str:
    """The first line of what a stranger's error says; its class where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
