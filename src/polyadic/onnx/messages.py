"""What stands in an ONNX file, message by message: every text is decoded and every tensor is found, no data is copied.

Protobuf decodes a text when it is first asked for, so that one with bad UTF-8 would raise anywhere later on.
"""

from __future__ import annotations

from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from polyadic.errors import DataError, first_words

DEEPEST = 32
"""Graphs within graphs, as the branches of If and the bodies of Loop are: protobuf itself ends at about 33."""

LONGEST_NAME = 4096
MOST_PARTS = 2_000_000
"""Messages within a file: a network of 10,000 nodes has about 200,000."""

_SHOWN = 60

_TEXTS_AND_MESSAGES = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
_PROSE = frozenset(("doc_string", "value", "producer_name", "producer_version"))  # may run over lines and be long


def shown(name: str) -> str:
    """A name of a stranger's in quotes, cut where it is long, and with unprintable characters escaped."""
    cut = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return f"'{cut}'" if cut.isprintable() else ascii(cut)


def told(error: Exception) -> str:
    """What an error of another package says, in one short line."""
    words = first_words(error).strip().rstrip(".:")
    printable = "".join(c if c.isprintable() else " " for c in words)
    return printable if len(printable) <= 160 else f"{printable[:160]}..."


def checked_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Every tensor of a model, wherever it stands, after all texts were decoded and all names checked.

    Raises:
        DataError: bad UTF-8, unprintable characters in a name, a long name, graphs nested too deep, too many parts.
    """
    tensors: list[onnx.TensorProto] = []
    pending: list[tuple[Any, int]] = [(model, 0)]  # a stack of our own: the nesting is the file's
    parts = 0
    while pending:
        message, depth = pending.pop()
        if isinstance(message, onnx.GraphProto):
            depth += 1
            if depth > DEEPEST:
                raise DataError(f"graphs stand within graphs at most {DEEPEST} deep; here it is more: do not trust it")
        elif isinstance(message, onnx.TensorProto):
            tensors.append(message)
        for name, value in _held(message):
            if isinstance(value, str | bytes):
                _check_text(value, name, message)
            elif isinstance(value, Message):
                pending.append((value, depth))
            elif value and isinstance(value[0], Message):
                parts += len(value)  # before they are made: an empty one takes two bytes in a file
                if parts > MOST_PARTS:
                    raise DataError(
                        f"an ONNX file has at most {MOST_PARTS:,} parts (nodes, attributes, values, axes); this one "
                        "has more: do not trust this file"
                    )
                pending.extend((one, depth) for one in value)
            else:
                for text in value:
                    _check_text(text, name, message)
    return tensors


def _held(message: Any) -> list[tuple[str, Any]]:
    """What a message holds in fields of texts and of other messages, by the names of the fields."""
    if isinstance(message, onnx.TensorProto):  # to list all that it holds would copy its data
        return [(name, getattr(message, name)) for name in ("name", "doc_string", "external_data", "metadata_props")]
    try:
        found = message.ListFields()
    except UnicodeDecodeError:
        raise DataError(_no_utf8("text", message)) from None
    return [(field.name, value) for field, value in found if field.type in _TEXTS_AND_MESSAGES]


def _no_utf8(field: str, message: Any) -> str:
    kind = message.DESCRIPTOR.name
    return f"texts of an ONNX file are UTF-8; a {field} of a {kind} is not: the file is damaged, export it again"


def _check_text(text: str | bytes, field: str, message: Any) -> None:
    if isinstance(text, bytes):  # what protobuf gives where it cannot decode a text
        raise DataError(_no_utf8(field, message))
    if field in _PROSE or (len(text) <= LONGEST_NAME and text.isprintable()):
        return
    where = f"a {field} of a {message.DESCRIPTOR.name}"
    if len(text) > LONGEST_NAME:
        raise DataError(
            f"names have at most {LONGEST_NAME:,} characters; {where}, {shown(text)}, has {len(text):,}: shorten it"
        )
    raise DataError(f"names hold printable characters only; {where} is {shown(text)}: name it otherwise")
