"""Which layer takes which format at which rank: pure data, made by a search or by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, field_serializer, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from polyadic.errors import LayerError

Rank = tuple[int, ...]


@checked_dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class Choice:
    """One layer's format and rank; written by hand, a single rank may be a plain number."""

    layer: str
    format: str
    rank: Rank

    @field_validator("rank", mode="before")
    @classmethod
    def _one_rank(cls, value: object) -> object:
        return (value,) if isinstance(value, int) else value

    @field_serializer("rank")
    def _plain_rank(self, value: Rank) -> int | list[int]:
        return plain_rank(value)


@dataclass(frozen=True)
class Plan:
    """Choices in the order of the network's layers; a layer that is not named stays dense.

    A choice may name a stage of the chain of an earlier one: ``conv1``, then ``conv1.1``.
    """

    file: ClassVar[str] = "plan.json"

    choices: tuple[Choice, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two choices for one layer.

        Raises:
            LayerError: a layer stands twice in the plan.
        """
        names = [choice.layer for choice in self.choices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise LayerError(f"a plan names each layer at most once; got {', '.join(twice)} several times")

    def of(self, layer: str) -> Choice | None:
        """The choice for ``layer``, None if it stays dense."""
        return next((choice for choice in self.choices if choice.layer == layer), None)

    def to_json(self) -> list[dict[str, Any]]:
        """The choices as plain lists and numbers."""
        dumped: list[dict[str, Any]] = _CHOICES.dump_python(list(self.choices), mode="json")
        return dumped

    @staticmethod
    def from_json(data: object) -> Plan:
        """The inverse of :meth:`to_json`.

        Raises:
            LayerError: not a list of {layer, format, rank}.
        """
        try:
            return Plan(tuple(_CHOICES.validate_python(data)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the list"
            raise LayerError(
                f"a plan is a list of objects with layer, format and rank; at {where}: {first['msg']}"
            ) from error


_CHOICES = TypeAdapter(list[Choice])


def plain_rank(rank: Rank) -> int | list[int]:
    """A rank as people write it: 64, or [40, 33]."""
    return rank[0] if len(rank) == 1 else list(rank)
