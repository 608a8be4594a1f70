# Two commands set everything up: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Real data and third-party weights lie beside a developer's checkout; tests that need them skip where they are not.
ifneq ($(wildcard ../shared/data),)
export ZOO_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/weights),)
export ZOO_WEIGHTS ?= $(abspath ../shared/weights)
endif

.PHONY: demo test test-slow lint bench clean

demo: $(VENV)/demo-ready
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: lint
	$(BIN)/python -m pytest -q

test-slow: $(VENV)/test-ready
	$(BIN)/python -m pytest -q -m slow --timeout 3600

lint: $(VENV)/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test-ready
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/fetch.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/levers.py
	$(BIN)/python benchmarks/look.py
	$(BIN)/python benchmarks/attack.py

$(VENV)/demo-ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[data]"
	touch $@

$(VENV)/test-ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
