# Each target creates what it needs: `make demo` on a fresh machine builds .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ZOO_STAMP := $(VENV)/.zoo-installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check zoo clean

help:
	@echo "make demo       train a small network on the digits and compress it"
	@echo "make test       run the tests but the slow ones, on all cores"
	@echo "make test-slow  run the slow tests, and every property on examples drawn anew"
	@echo "make check      lint, formatting, types and floors"
	@echo "make zoo        take apart networks of torchvision, timm and our own; writes docs/zoo.md"
	@echo "make clean      remove .venv and caches"

# The stamp is the last thing written, so an interrupted installation starts again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Polyadic needs Python 3.11 or newer and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,digits,images]'
	@touch $@

demo: $(STAMP)
	$(BIN)/polyadic demo

# One process per core, each with one thread (tests/conftest.py); a file stays in one process, with what it shares.
PYTEST := $(BIN)/pytest --numprocesses logical --dist loadfile

test: $(STAMP)
	$(PYTEST) -m 'not slow'

# Hypothesis marks every property with "hypothesis". The examples are drawn anew for every state of the sources, so who
# runs the same sources sees the same failure; SEED=anything draws others. A failure prints the example, and the line
# that brings it back.
SEED ?= $(or $(shell git rev-parse HEAD:src 2>/dev/null),0)

test-slow: $(STAMP)
	$(PYTEST) -m 'slow or hypothesis' --hypothesis-profile random --hypothesis-seed $(SEED)
	$(BIN)/pytest tests/cli/test_kill_and_resume.py -k control_c  # skipped in processes of pytest-xdist

# The same four commands as in .pre-commit-config.yaml.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch is there already, in the version that torchvision asks for: any build of it will do. Rows that are in
# benchmarks/results/zoo.json are kept; ZOO=--fresh runs them again.
$(ZOO_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[zoo]'
	@touch $@

zoo: $(ZOO_STAMP)
	$(BIN)/python benchmarks/zoo/run.py $(ZOO)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
