"""One small network."""

from __future__ import annotations

import pytest
from subjects import nearly_low_rank
from torch import nn


@pytest.fixture
def net() -> nn.Module:
    return nearly_low_rank()
