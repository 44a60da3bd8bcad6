"""How much a network may cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from polyadic.errors import BudgetError
from polyadic.schema.cost import Cost

_WRITTEN = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<unit>%|x|[kmgt]?|[kmgt]i?b|b)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Upper limits, each absent where it is not asked for.

    Attributes:
        params: numbers that training would change.
        macs: multiply-accumulates for one sample.
        bytes: size of all parameters and buffers.
    """

    params: int | None = None
    macs: int | None = None
    bytes: int | None = None

    def admits(self, cost: Cost) -> bool:
        """Whether ``cost`` keeps every limit."""
        return self.use(cost) <= 1.0

    def use(self, cost: Cost) -> float:
        """The largest share of a limit that ``cost`` takes; above 1 it is exceeded."""
        return max((getattr(cost, name) / limit for name, limit in self.limits.items()), default=0.0)

    @property
    def limits(self) -> dict[str, int]:
        """The limits that are asked for, by name."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: limit for name, limit in named if limit is not None}

    def __str__(self) -> str:
        """As people write it."""
        return ", ".join(f"{name} <= {limit:,}" for name, limit in self.limits.items())

    @staticmethod
    def parse(texts: Sequence[str], dense: Cost) -> Budget:
        """From ``macs=50%``, ``params=200k``, ``bytes=1MB``, ``macs=2.5x`` (so many times fewer), several at once.

        Args:
            texts: NAME=LIMIT; a limit is a number with k, M or G, a share of the dense network, or how many times less
                than that; bytes also in kB, MB, GB (powers of ten) and KiB, MiB, GiB.
            dense: cost of the dense network.

        Raises:
            BudgetError: something else, latency (not supported yet), a limit of 0, the same name twice.
        """
        limits: dict[str, int] = {}
        for text in texts:
            name, _, written = (part.strip() for part in text.partition("="))
            if name == "latency":
                raise BudgetError(f"a budget of latency is not supported yet; got {text!r}: limit macs instead")
            if name not in {field.name for field in fields(Budget)}:
                raise BudgetError(f"a budget is macs=..., params=... or bytes=...; got {text!r}")
            if name in limits:
                raise BudgetError(f"a budget names each cost once; got {name} twice")
            limits[name] = _limit(text, name, written, getattr(dense, name))
        return Budget(**limits)


def _limit(text: str, name: str, written: str, dense: int) -> int:
    match = _WRITTEN.fullmatch(written)
    if match is None:
        raise BudgetError(f"a limit is written 50%, 2x, 200k, 1.5M or, for bytes, 1MB or 1MiB; got {text!r}")
    number, unit = float(match["number"]), match["unit"].lower()
    if unit == "%":
        limit = number / 100.0 * dense
    elif unit == "x":
        limit = dense / number if number > 0 else 0.0
    else:
        if unit.endswith("b") and name != "bytes":
            raise BudgetError(f"{name} are counted in numbers (k, M, G), not in bytes; got {text!r}")
        prefix = unit.rstrip("b").rstrip("i")
        limit = number * (1024 if "i" in unit else 1000) ** {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}[prefix]
    if limit < 1:
        raise BudgetError(f"a limit is at least 1; got {text!r}, which is {limit:g}")
    return int(limit)
