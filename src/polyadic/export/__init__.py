"""A result as files, and back."""

from polyadic.export.checkpoint import Origin, load, origin_of, read_plan, save, summary_document, write_plan

__all__ = ["Origin", "load", "origin_of", "read_plan", "save", "summary_document", "write_plan"]
