from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("optuna", "sqlalchemy", "scipy")


def loaded_by(code: str) -> set[str]:
    """The heavy libraries that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_searches_loads_no_large_library() -> None:
    assert loaded_by("import polyadic.search; polyadic.search.search_named('frontier')") == set()


@pytest.mark.parametrize(
    "code",
    ["search_named('pars')", "SEARCHES['pars']", "PARS", "StudyLog"],
    ids=["named", "mapping", "PARS", "StudyLog"],
)
def test_what_needs_optuna_loads_it(code: str) -> None:
    assert "optuna" in loaded_by(f"import polyadic.search; polyadic.search.{code}")
