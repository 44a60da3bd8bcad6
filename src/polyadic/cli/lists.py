"""Lists as they are written on a command line: numbers, sizes, names."""

from __future__ import annotations

from polyadic.errors import LayerError, PolyadicError


def numbers(text: str | None, what: str) -> tuple[float, ...] | None:
    """Read "0.5,0.5" as (0.5, 0.5).

    Raises:
        PolyadicError: something in it is not a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise PolyadicError(f"{what} is a list of numbers separated by commas; got {text!r}") from error


def whole_numbers(text: str, what: str) -> tuple[int, ...]:
    """Read "40,33,64" as (40, 33, 64).

    Raises:
        PolyadicError: something in it is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise PolyadicError(f"{what} is a whole number, or several separated by commas; got {text!r}") from error


def input_size(text: str) -> tuple[int, ...]:
    """Read the value of ``--input-shape``.

    Raises:
        LayerError: a size below 1.
    """
    sizes = whole_numbers(text, "--input-shape")
    if min(sizes) < 1:
        raise LayerError(f"--input-shape is a list of sizes from 1 up, such as 3,224,224; got {text!r}")
    return sizes


def image_size(text: str) -> tuple[int, int]:
    """Read the value of ``--input-size``, such as "224", "48x320" or "48,320", as height and width.

    Raises:
        PolyadicError: it is not one or two whole numbers above 0.
    """
    parts = text.replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise PolyadicError(f"--input-size is a height and a width from 1 up, such as 224 or 48x320; got {text!r}")
    return int(parts[0]), int(parts[-1])


def names_of(text: str) -> tuple[str, ...]:
    """Read "cp-epc, svd" as names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
