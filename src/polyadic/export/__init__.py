"""A result as files, and back; and any network as files that other programs run."""

from polyadic.export.checkpoint import Origin, load, origin_of, read_plan, save, summary_document, write_plan
from polyadic.export.found_plan import save_search, search_document
from polyadic.export.network_files import TARGETS, ExportedFile, check_target, export_network
from polyadic.export.verification import LIMIT, Comparison

__all__ = [
    "LIMIT",
    "TARGETS",
    "Comparison",
    "ExportedFile",
    "Origin",
    "check_target",
    "export_network",
    "load",
    "origin_of",
    "read_plan",
    "save",
    "save_search",
    "search_document",
    "summary_document",
    "write_plan",
]
