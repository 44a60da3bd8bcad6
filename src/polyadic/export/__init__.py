"""A result as files, and back; and any network as files that other programs run."""

from polyadic.export.checkpoint import load, save, save_applied, save_search
from polyadic.export.file_formats import FILE_FORMATS
from polyadic.export.lightning_callback import lightning_callback
from polyadic.export.network_files import LIMIT, Comparison, ExportedFile, check_file_format, export_network
from polyadic.export.plan_file import Origin, load_plan, origin_of, read_plan, write_plan

__all__ = [
    "FILE_FORMATS",
    "LIMIT",
    "Comparison",
    "ExportedFile",
    "Origin",
    "check_file_format",
    "export_network",
    "lightning_callback",
    "load",
    "load_plan",
    "origin_of",
    "read_plan",
    "save",
    "save_applied",
    "save_search",
    "write_plan",
]
