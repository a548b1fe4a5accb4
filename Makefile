# Everything sets itself up: `make demo` and `make test` work on a fresh machine.
# VENV=folder keeps the environment elsewhere; PYTHON=python3.12 takes another interpreter.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready-$(shell cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)
# Two cores: one process with all threads; OpenMP's spinning collapses otherwise.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-fast check bench setup clean

setup: $(READY)

$(READY):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.ready-*
	@touch $@

demo: setup
	$(BIN)/flowhmr demo

test: check
	$(BIN)/python -m pytest

test-fast: setup
	$(BIN)/python -m pytest -m 'not slow'

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: setup
	PYTHON=$(BIN)/python VENV=$(VENV)-bench sh benchmarks/run.sh $(ARGS)

clean:
	rm -rf out build dist .pytest_cache .ruff_cache
