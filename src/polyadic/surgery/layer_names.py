"""Names of layers as users write them: patterns, and what is nearest to a name that no layer has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from polyadic.errors import LayerError


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of ``patterns`` (names, or patterns with ``*`` and ``?``) matches ``name``."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(patterns: Sequence[str], names: Sequence[str], what: str) -> None:
    """Make sure that every pattern matches a layer, so that none is mistyped without anybody noticing.

    Args:
        patterns: as the user wrote them.
        names: of all layers, whether they can be replaced or not.
        what: where the patterns stand, such as "exclude".

    Raises:
        LayerError: one matches nothing, or all of them stand in one text.
    """
    if isinstance(patterns, str):
        raise LayerError(f"{what} is a list of names or patterns; got the text {patterns!r}: write [{patterns!r}]")
    for pattern in patterns:
        if not isinstance(pattern, str) or not any(fnmatchcase(name, pattern) for name in names):
            raise LayerError(
                f"every pattern of {what} matches a layer; {pattern!r} matches none{nearest(pattern, names)}"
            )


def nearest(name: object, names: Sequence[str]) -> str:
    """The end of a sentence on a name that does not exist: what may have been meant, else what there is."""
    below = [known for known in names if known.startswith(f"{name}.")]
    if below:
        return f": did you mean '{name}.*'? It holds {below[0]}" + (", ..." if len(below) > 1 else "")
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    if close:
        return f": did you mean {' or '.join(map(repr, close))}?"
    return f": its layers are {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
