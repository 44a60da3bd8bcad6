"""Whole files, append-only JSON lines, and the neighbours that a killed process leaves."""

from polyadic.storage.files import (
    append_line,
    as_plain,
    atomic_path,
    remove_partial,
    storage_error,
    whole_lines,
    write_together,
)

__all__ = [
    "append_line",
    "as_plain",
    "atomic_path",
    "remove_partial",
    "storage_error",
    "whole_lines",
    "write_together",
]
