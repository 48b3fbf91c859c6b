SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(STAMP): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.PHONY: setup
setup: $(STAMP) ## Make the environment in .venv

.PHONY: lock
lock: setup ## Write constraints.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
	  --custom-compile-command "make lock" pyproject.toml -o constraints.txt

PYTEST := $(BIN)/python -m pytest
SRC := src tests examples bench

.PHONY: test
test: setup ## Run all tests (embedded servers, no root, about 5 minutes on 2 cores)
	$(PYTEST) -n 3

.PHONY: chaos
chaos: setup ## Run the long tests under injected faults
	$(PYTEST) -n 2 -m chaos --timeout 1800

PYTHONS ?= python3.12 python3.13
.PHONY: test-pythons
test-pythons: ## Run the unit tests on the other Pythons of this machine
	@for python in $(PYTHONS); do command -v $$python > /dev/null || { echo "no $$python here"; continue; }; \
	  venv=.venv-$${python#python}; test -x $$venv/bin/python || $$python -m venv $$venv || exit 1; \
	  $$venv/bin/pip install --quiet --require-hashes -r constraints.txt && \
	  $$venv/bin/pip install --quiet --no-deps --no-build-isolation -e . && \
	  $$venv/bin/python -m pytest tests/unit || exit 1; done

.PHONY: check
check: setup ## Formatting, lint, types, import layers, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache > .lint-imports.log || { cat .lint-imports.log; exit 1; }
	$(BIN)/codespell src tests examples bench docs README.md CHANGELOG.md CONTRIBUTING.md

.PHONY: format
format: setup ## Put code into the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: demo
demo: setup ## See it all: 1,000 orders, two workers, one of them killed
	$(BIN)/workflow-worker demo

.PHONY: dev
dev: setup ## Development mode with hot reload, for examples/orders.py
	$(BIN)/workflow-worker dev examples/orders.py

.PHONY: build
build: setup ## Build examples/orders.py into dist/
	$(BIN)/workflow-worker build examples/orders.py -o dist/

.PHONY: start
start: build ## Production mode: start what was built
	$(BIN)/workflow-worker start "$$(ls -t dist/*.wwa | head -n 1)"

.PHONY: docs
docs: setup ## Write the generated parts of README and docs anew
	$(BIN)/python -m tests.docs.write

.PHONY: bench
bench: setup ## Measure, beside a yardstick and peers (PEERS=taskiq,arq,… ; empty for none)
	$(BIN)/python -m bench

.PHONY: bench-compare
bench-compare: setup ## Fail when a figure has become worse by more than 15 %
	$(BIN)/python -m bench.compare

.PHONY: ci
ci: test check ## What must pass before a change lands
