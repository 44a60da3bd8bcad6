"""Ranks that the hardware likes: multiples of 8, say, which fill its registers."""

from __future__ import annotations

from polyadic.schema import Rank


def round_rank(rank: Rank, multiple: int, largest: Rank) -> Rank:
    """``rank`` with every part at the nearest multiple, 0 excluded.

    A part whose ``largest`` value is below the multiple has none and stays; so does one that is at its largest value.
    """
    return tuple(_rounded(part, multiple, most) for part, most in zip(rank, largest, strict=True))


def _rounded(part: int, multiple: int, most: int) -> int:
    if part == most or most < multiple:
        return part
    return min(max(round(part / multiple), 1), most // multiple) * multiple
