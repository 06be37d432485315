# Two environments, so that the demo stays a lean serving install: .venv has what search needs, .venv-dev everything.

PYTHON ?= python3
PIP := -m pip install -qq --disable-pip-version-check
LEAN := .venv/.installed
DEV := .venv-dev/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check format clean

help:  ## List the targets
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

demo: $(LEAN)  ## Install what search needs and search the sample catalog
	@.venv/bin/aisle demo

test: $(DEV)  ## Install everything and run the tests
	@.venv-dev/bin/python -m pytest

check: $(DEV)  ## Check format, lint, types and import contracts
	@.venv-dev/bin/ruff format --check .
	@.venv-dev/bin/ruff check .
	@.venv-dev/bin/mypy
	@.venv-dev/bin/lint-imports

format: $(DEV)  ## Format the code and mend what lint can mend
	@.venv-dev/bin/ruff check --fix .
	@.venv-dev/bin/ruff format .

clean:  ## Remove the environments, caches and the demo's index
	rm -rf .venv .venv-dev demo-index build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Aisle needs Python 3.11 or later, and $(PYTHON) is not. Name one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $*
	@echo '*' > $*/.gitignore

$(LEAN): pyproject.toml | .venv/bin/python
	@echo "Installing aisle into .venv ..."
	@.venv/bin/python $(PIP) -e .
	@touch $@

# torch first and alone: so pip takes the CPU build where one is at hand. Groups need pip 25.1.
$(DEV): pyproject.toml | .venv-dev/bin/python
	@echo "Installing aisle, its extras and its development tools into .venv-dev (several minutes the first time) ..."
	@.venv-dev/bin/python $(PIP) --upgrade 'pip>=25.1'
	@.venv-dev/bin/python $(PIP) torch==2.13.0
	@.venv-dev/bin/python $(PIP) -e '.[parquet,lucene,train,bench]'
	@.venv-dev/bin/python $(PIP) --group dev
	@touch $@
