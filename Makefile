# Two commands for a new user: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Some rows; all of them take a minute longer.
DEMO := joint clts caption-replay er-bytes er-count er-63x er-total ewc lwf naive
# Folders with something to draw.
RECORDED := $(sort $(dir $(wildcard benchmarks/results/*/results.json benchmarks/results/*/ablations.json)))

.PHONY: demo test lint check docs pages clean

demo: $(VENV)/.installed
	$(BIN)/clts compare --stream digits --seeds 1 --strategies $(DEMO) --out results

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

docs: $(VENV)/.installed
	$(BIN)/pip install --quiet ".[docs]"
	$(BIN)/mkdocs build --strict

# What is drawn from the recorded results: a report.html in each folder, and the tables and figures of README and docs.
pages: $(VENV)/.installed
	for folder in $(RECORDED); do $(BIN)/clts report $$folder > /dev/null || exit 1; done
	$(BIN)/python benchmarks/readme.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing the package with torch, transformers and diffusers: a few minutes, once."
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "Installing the package and what its tests need: a few minutes, once."
	$(BIN)/pip install --quiet --editable ".[test]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

clean:
	rm -rf $(VENV) build dist results
