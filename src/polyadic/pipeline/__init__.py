"""The one verb that joins all rooms."""

from polyadic.pipeline.compress import compress
from polyadic.pipeline.options import CompressionResult, CompressOptions, Progress

__all__ = ["CompressOptions", "CompressionResult", "Progress", "compress"]
