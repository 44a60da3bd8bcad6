"""On what plans were chosen, and by what they were told apart, in the words of the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def held_out_words(provenance: Mapping[str, Any]) -> str:
    """The samples that chose: images with labels, of which the training ones were divided, or samples of any kind."""
    return "held-out samples" if "samples" in provenance or "score_function" in provenance else "held-out images"


def divergence_label(provenance: Mapping[str, Any]) -> str:
    """What the trials call their divergence, for the head of a column."""
    return "divergence" if _compared(provenance) is None else "outputs lost"


def divergence_axis(provenance: Mapping[str, Any]) -> str:
    """The same for an axis, with its unit."""
    how = _compared(provenance)
    if how is None:
        return "divergence from the dense outputs, nats"
    return "information lost of the dense outputs, share" if how == "divergence" else "1 - R^2 of the dense outputs"


def _compared(provenance: Mapping[str, Any]) -> str | None:
    """How the outputs of samples were compared; None for images with labels."""
    said = str(provenance.get("compared") or "")
    return None if not said.startswith("outputs by ") else said.removeprefix("outputs by ").split(";")[0]
