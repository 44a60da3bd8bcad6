"""Data of an ONNX file that stands in other files: read into it, from its own folder and from nowhere else.

A file names these others itself, and it comes from a stranger: a name that leads out of the folder, by its words or by
a link, is refused, and so is whatever is no plain file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import onnx

from polyadic.errors import DataError, first_words
from polyadic.onnx.messages import LONGEST_NAME, shown
from polyadic.onnx.tensor_formats import LIMIT, TensorFormat, bytes_of, checked_format, dims_of


@dataclass(frozen=True)
class _Place:
    """Where the data of one tensor stands; without a length it goes on to the end of the file."""

    path: Path
    offset: int
    length: int


def read_plain_file(path: Path, offset: int = 0, length: int | None = None, *, follow: bool = True) -> bytes:
    """Bytes of a plain file, all of them where ``length`` is None.

    Raises:
        DataError: no file, a folder, a device, a pipe, a file over 2^31 - 1 bytes to be read whole, or a shorter one.
        OSError: the operating system refuses.
    """
    # A pipe without a writer would wait for ever when it is opened, and a device may do anything when it is read.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    with os.fdopen(descriptor, "rb") as file:
        held = os.fstat(file.fileno())
        if not stat.S_ISREG(held.st_mode):
            raise DataError(f"plain files are read; '{path.name}' is a folder, a device or a pipe: check the path")
        wanted = held.st_size - offset if length is None else length
        if wanted > LIMIT:
            raise DataError(
                f"an ONNX file holds at most 2^31 - 1 bytes, which is protobuf's limit; '{path.name}' has "
                f"{held.st_size:,}: keep the weights in files beside it (onnx.save with save_as_external_data)"
            )
        file.seek(offset)
        content = file.read(max(wanted, 0))
    if len(content) < wanted:
        raise DataError(f"'{path.name}' became shorter while it was read: read it when it is complete")
    return content


def bring_inside(tensors: Sequence[onnx.TensorProto], folder: Path, held: int) -> None:
    """Read the data that tensors have in other files into them, in place.

    Args:
        tensors: all of a file; those that have their data inside are left as they are.
        folder: that of the file, in which the others stand.
        held: bytes of the file itself; with all data they are at most 2^31 - 1, or nothing is read.

    Raises:
        DataError: a place outside of the folder, no plain file, or not the bytes that the dimensions ask for.
    """
    outside = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    places: list[_Place] = []
    for tensor in outside:
        form = checked_format(tensor)
        _check_nothing_inside(tensor, form)
        places.append(_place(tensor, form, folder))
        held += places[-1].length
        if held > LIMIT:
            raise DataError(
                "a file with all its data is at most 2^31 - 1 bytes, which is protobuf's limit; with the data in "
                "other files this is larger: export a smaller network, or its weights in float16"
            )
    for tensor, place in zip(outside, places, strict=True):
        with _said_of(tensor):
            tensor.raw_data = read_plain_file(place.path, place.offset, place.length, follow=False)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    for tensor in tensors:
        if len(tensor.external_data):
            raise DataError(
                f"a tensor has its data inside or outside; {shown(tensor.name)} names another file and says that its "
                "data is inside: export the file again"
            )


@contextmanager
def _said_of(tensor: onnx.TensorProto) -> Iterator[None]:
    """What the operating system says of the file of a tensor, as one sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or first_words(error)
        raise DataError(
            f"data in other files stands beside an ONNX file; that of {shown(tensor.name)} cannot be read ({why}): "
            "copy all files of the network together"
        ) from error


def _check_nothing_inside(tensor: onnx.TensorProto, form: TensorFormat) -> None:
    if not form.bits:
        raise DataError(f"texts stand inside an ONNX file; {shown(tensor.name)} has them in another: export it again")
    if tensor.HasField("raw_data") or len(getattr(tensor, form.field)):
        raise DataError(
            f"a tensor has its data inside or outside; {shown(tensor.name)} has it in both: export the file again"
        )


def _place(tensor: onnx.TensorProto, form: TensorFormat, folder: Path) -> _Place:
    """Where the data of a tensor stands, which is in the folder, and as long as its dimensions say."""
    name, said = shown(tensor.name), {entry.key: entry.value for entry in tensor.external_data}
    if len(said) < len(tensor.external_data):
        raise DataError(f"a place of data is said once; {name} says a part of it twice: export the file again")
    path = _inside(folder, said.get("location", ""), name)
    offset = _number(said.get("offset", "0"), "offset", name)
    with _said_of(tensor):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError(
                f"data in other files stands in plain ones; that of {name} is in a folder, a device or a pipe: do not "
                "trust this file"
            )
        size = found.st_size
    length = _number(said["length"], "length", name) if "length" in said else max(size - offset, 0)
    if offset + length > size:
        raise DataError(
            f"data ends where its file ends; {name} takes {length:,} bytes from {offset:,} on of '{path.name}', which "
            f"has {size:,}: the file is cut off, copy it again"
        )
    needed = bytes_of(tensor, form)
    if length != needed:
        raise DataError(
            f"a tensor holds as many numbers as its dimensions say; {name}, {dims_of(tensor)} in {form.name}, needs "
            f"{needed:,} bytes and has {length:,} in '{path.name}': export the files again"
        )
    return _Place(path, offset, length)


def _number(text: str, what: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):  # 19 digits hold every size of a file
        raise DataError(f"the {what} of data is a whole number from 0 on; {name} says {shown(text)}: export it again")
    return int(text)


def _inside(folder: Path, location: str, name: str) -> Path:
    """The file that a location names, which stands in the folder or below it, all links followed."""
    windows = PureWindowsPath(location)  # takes both / and \ for a separator, and knows drives and UNC
    absolute = location.startswith(("/", "\\")) or bool(windows.anchor)
    if not location or len(location) > LONGEST_NAME or not location.isprintable() or absolute or ".." in windows.parts:
        raise DataError(
            f"data in other files stands in the folder of the ONNX file; {name} has it at {shown(location)}: do not "
            "trust this file"
        )
    try:
        root, path = folder.resolve(), (folder / location).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle are a RuntimeError before Python 3.13
        raise DataError(f"the place of data can be followed; that of {name} cannot: do not trust this file") from error
    if not path.is_relative_to(root):
        raise DataError(
            f"data in other files stands in the folder of the ONNX file; that of {name}, {shown(location)}, is a link "
            "that leads out of it: copy the file itself there"
        )
    return path
