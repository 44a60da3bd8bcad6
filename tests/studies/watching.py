"""Ways to look on: images that note when they are read, and a stop in the middle."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from polyadic.data.images import ImageSet


class StoppedError(Exception):
    pass


def stop_after(rows: int) -> Any:
    def show(done: int, total: int, what: str) -> None:
        assert done < total
        assert "/" in what
        if done == rows:
            raise StoppedError

    return show


class Watched(ImageSet):
    """Test images that note when they are read."""

    def __init__(self, source: ImageSet, log: list[str]) -> None:
        self.source, self.log = source, log

    @property
    def labels(self) -> Tensor:
        return self.source.labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.source.image_shape

    def images(self, index: Tensor) -> Tensor:
        self.log.append("read")
        return self.source.images(index)
