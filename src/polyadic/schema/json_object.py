"""A JSON object read part by part: what is missing or of another kind is said with its place."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from polyadic.errors import PolyadicError, StorageError

Value = TypeVar("Value")

VERSION = 1
"""Of every JSON document that Polyadic writes and reads."""

_REQUIRED: Any = object()


class JsonObject:
    """One object of a document that Polyadic wrote, perhaps long ago; keys that nobody asks for are ignored.

    >>> JsonObject({"drop": 0.5}, "a trial").read("drop", float)
    0.5
    """

    def __init__(self, data: object, where: Path | str, remedy: str = "copy it again", place: str = "") -> None:
        """Take ``data`` from ``where`` (a file, or what it is); ``remedy`` tells a reader how to repair it.

        Raises:
            StorageError: ``data`` is no object.
        """
        self.where, self.remedy, self.place = where, remedy, place
        if not isinstance(data, Mapping):
            raise self._damaged(place, f"a JSON object is needed, not {type(data).__name__}")
        self.data = data

    @staticmethod
    def of(data: object, where: Path | str, remedy: str = "copy it again") -> JsonObject:
        """``data`` itself where it is one already, so that errors keep the place within the whole document."""
        return data if isinstance(data, JsonObject) else JsonObject(data, where, remedy)

    def read(self, key: str, kind: Any, default: Any = _REQUIRED) -> Any:
        """The part ``key``, checked to be of ``kind`` (any type that pydantic knows); ``default`` where it is absent.

        Raises:
            StorageError: it is missing, or of another kind.
        """
        if key not in self.data and default is not _REQUIRED:
            return default
        return self._checked(kind, self._part(key), self._at(key))

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A number; NaN where JSON has null, which stands for what is not finite."""
        value = self.read(key, float | None, default)
        return math.nan if value is None else float(value)

    def whole(self, kind: Any) -> Any:
        """All of it as a dataclass whose fields are called as the keys."""
        return self._checked(kind, self.data, self.place)

    def nested(self, key: str) -> JsonObject:
        """The object under ``key``."""
        return JsonObject(self._part(key), self.where, self.remedy, self._at(key))

    def each(self, key: str) -> list[JsonObject]:
        """The objects in the list under ``key``."""
        return [
            JsonObject(item, self.where, self.remedy, f"{self._at(key)}.{number}")
            for number, item in enumerate(self.read(key, list))
        ]

    def parse(self, key: str, from_json: Callable[[object], Value]) -> Value:
        """The part ``key`` as a class reads it that has its own words for what is wrong.

        Raises:
            StorageError: it is missing, or that class refuses it.
        """
        part = self._part(key)
        try:
            return from_json(part)
        except PolyadicError as error:
            raise self._damaged(self._at(key), str(error)) from error

    def _part(self, key: str) -> Any:
        if key not in self.data:
            raise self._damaged(self._at(key), "Field required")
        return self.data[key]

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def _checked(self, kind: Any, data: object, place: str) -> Any:
        try:
            return _adapter(kind).validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            within = ".".join((place, *map(str, first["loc"]))).lstrip(".")
            raise self._damaged(within, first["msg"]) from error

    def _damaged(self, place: str, reason: str) -> StorageError:
        return StorageError(f"{self.where} is damaged at {place or 'the top'} ({reason}): {self.remedy}")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
