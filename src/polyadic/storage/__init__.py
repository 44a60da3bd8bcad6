"""Files said once: whole files, append-only JSON lines, JSON documents, a cache by content, a lock on a folder."""

from polyadic.storage.archives import inflates_to
from polyadic.storage.content_cache import ContentCache, cache_directory, content_key
from polyadic.storage.files import atomic_path, remove_partial, storage_error, storage_errors, write_together
from polyadic.storage.json_files import (
    RecordLog,
    append_record,
    as_plain,
    json_bytes,
    read_document,
    read_records,
)
from polyadic.storage.locks import folder_lock

__all__ = [
    "ContentCache",
    "RecordLog",
    "append_record",
    "as_plain",
    "atomic_path",
    "cache_directory",
    "content_key",
    "folder_lock",
    "inflates_to",
    "json_bytes",
    "read_document",
    "read_records",
    "remove_partial",
    "storage_error",
    "storage_errors",
    "write_together",
]
