"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest

WITH_EXAMPLES = ("cp_als", "cp_epc", "cp_lm", "evbmf", "stable_cp", "tt_svd", "tucker2")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_docstring_print_what_they_say(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"polyadic.decomposition.{name}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0
