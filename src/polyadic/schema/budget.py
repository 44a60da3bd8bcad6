"""How much a network may cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from polyadic.errors import BudgetError
from polyadic.schema.cost import Cost

_NUMBER = r"(?P<number>\d+(\.\d+)?|\.\d+)\s*"
_WRITTEN = re.compile(_NUMBER + r"(?P<unit>%|x|[kmgt]?|[kmgt]i?b|b)", re.IGNORECASE)
_TIME = re.compile(_NUMBER + r"(?P<unit>%|x|us|ms|s)", re.IGNORECASE)
_LIMIT = re.compile(r"(params|macs|bytes|latency) <= ([\d,.]*\d)")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Budget:
    """Upper limits, each absent where it is not asked for.

    Attributes:
        params: numbers that training would change.
        macs: multiply-accumulates for one sample.
        bytes: size of all parameters and buffers.
        latency: milliseconds of one pass over a batch, on the engine that was named.
    """

    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    latency: float | None = None

    def admits(self, cost: Cost) -> bool:
        """Whether ``cost`` keeps every limit."""
        return self.use(cost) <= 1.0

    def use(self, cost: Cost) -> float:
        """The largest share of a limit that ``cost`` takes; above 1 it is exceeded.

        Raises:
            BudgetError: latency is limited, and nobody has timed the network.
        """
        if self.latency is not None and cost.latency is None:
            raise BudgetError(f"a limit of latency is for networks that an engine has run; got {cost}")
        return max((getattr(cost, name) / limit for name, limit in self.limits.items()), default=0.0)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are asked for, by name."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: limit for name, limit in named if limit is not None}

    def __str__(self) -> str:
        """As people write it."""
        return ", ".join(
            f"{name} <= {limit:,.6g} ms" if name == "latency" else f"{name} <= {format_cost(name, limit)}"
            for name, limit in self.limits.items()
        )

    @staticmethod
    def from_text(text: str) -> Budget:
        """The inverse of ``str()``: "macs <= 20,000, latency <= 2 ms"; whatever else stands there is ignored."""
        numbers = {name: float(limit.replace(",", "")) for name, limit in _LIMIT.findall(text)}
        latency = numbers.pop("latency", None)
        return Budget(**{name: int(number) for name, number in numbers.items()}, latency=latency)

    @staticmethod
    def parse(texts: Sequence[str], dense: Cost) -> Budget:
        """From ``macs=50%``, ``params=200k``, ``bytes=1MB``, ``latency=2ms``, ``macs=2.5x`` (so many times less).

        Args:
            texts: NAME=LIMIT, several at once; a limit is a number with k, M or G, a share of the dense network, or how
                many times less than that; bytes also in kB, MB, GB (powers of ten) and KiB, MiB, GiB; latency in us,
                ms or s.
            dense: cost of the dense network.

        Raises:
            BudgetError: something else, a latency without an engine, a limit of 0, the same name twice.
        """
        if isinstance(texts, str):
            raise BudgetError(f"a budget is a list of texts; got the text {texts!r}: write budget=[{texts!r}]")
        limits: dict[str, Any] = {}  # whole numbers where the fields ask for them
        for text in texts:
            name, _, limit = (part.strip() for part in text.partition("="))
            if name not in {field.name for field in fields(Budget)}:
                raise BudgetError(f"a budget is macs=..., params=..., bytes=... or latency=...; got {text!r}")
            if name in limits:
                raise BudgetError(f"a budget names each cost once; got {name} twice")
            if name == "latency":
                limits[name] = _time(text, limit, dense.latency)
            else:
                limits[name] = _count(text, name, limit, getattr(dense, name))
        return Budget(**limits)


def format_cost(name: str, amount: float) -> str:
    """A cost as people read it: ``12,345``, or ``2.31 ms`` of latency."""
    if name != "latency":
        return f"{amount:,}"
    return f"{amount:,.0f} ms" if amount >= 100 else f"{amount:.3g} ms"


def _time(text: str, limit: str, dense: float | None) -> float:
    """Milliseconds."""
    match = _TIME.fullmatch(limit)
    if match is None:
        raise BudgetError(f"a limit of latency is written 2ms, 500us, 0.1s, 50% or 2x; got {text!r}")
    if dense is None:
        raise BudgetError(f"latency is the time on an engine: name one (--engine onnxruntime); got {text!r} and none")
    number, unit = float(match["number"]), match["unit"].lower()
    if not number > 0:
        raise BudgetError(f"a limit of latency is above 0; got {text!r}")
    if unit in _MILLISECONDS:
        return number * _MILLISECONDS[unit]
    return number / 100.0 * dense if unit == "%" else dense / number


def _count(text: str, name: str, limit: str, dense: int) -> int:
    match = _WRITTEN.fullmatch(limit)
    if match is None:
        raise BudgetError(f"a limit is written 50%, 2x, 200k, 1.5M or, for bytes, 1MB or 1MiB; got {text!r}")
    number, unit = float(match["number"]), match["unit"].lower()
    if unit == "%":
        amount = number / 100.0 * dense
    elif unit == "x":
        amount = dense / number if number > 0 else 0.0
    else:
        if unit.endswith("b") and name != "bytes":
            raise BudgetError(f"{name} are counted in numbers (k, M, G), not in bytes; got {text!r}")
        prefix = unit.rstrip("b").rstrip("i")
        amount = number * (1024 if "i" in unit else 1000) ** {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}[prefix]
    if unit not in ("%", "x") and 1 <= amount <= 100 and dense > 100 * amount:  # so little was never meant
        meant = f"{name}={match['number']}%, or {name}={match['number']}k or M"
        if unit:  # 0.05k may be 5 %, and 5B no number of anything
            meant = f"{name}={number * 100:g}%" if number < 1 else f"{name}={match['number']}%"
        raise BudgetError(f"{text!r} leaves {amount:g} of {dense:,} {name}: did you mean {meant}?")
    if amount < 1:
        raise BudgetError(f"a limit is at least 1; got {text!r}, which is {amount:g}")
    return int(amount)
