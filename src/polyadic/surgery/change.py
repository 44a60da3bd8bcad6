"""What was done to the layers of a network on the way to a simpler one, or why it was not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One thing that was done, or that was considered and left.

    Attributes:
        layers: names of the layers that it is about, in the order in which they run.
        what: what was done or considered, such as "batch norm folded".
        why: what is gained by it, or in a sentence why it was not done.
        done: whether it was done.
    """

    layers: tuple[str, ...]
    what: str
    why: str
    done: bool
