"""Fixtures of the training tests."""

from __future__ import annotations

import pytest
from corners import SmallNet, corner_data

from polyadic.data.images import ImageData


@pytest.fixture(scope="session")
def data() -> ImageData:
    """Return the corner images."""
    return corner_data()


@pytest.fixture
def net() -> SmallNet:
    """Return an untrained network."""
    return SmallNet()
