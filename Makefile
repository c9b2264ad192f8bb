# `make` alone lists what there is. Every target makes .venv first where it is missing or older than its requirements.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo up down sheet test test-all lint format typecheck

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY) ## make .venv with pinned versions, on CPU
	@echo "ready: $(BIN)/difflora --help"

demo: $(READY) ## the whole chain on the embedded default: people, LoRAs, hypernetwork, evaluation
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	$(BIN)/difflora figures
	@echo "the report: reports/evaluation.html; unseen people: reports/people.png; the model: models/difflora"

up: $(READY) ## start Prefect's server, a worker and MLflow's server, and deploy all flows
	$(BIN)/python -m flows.services up

down: $(READY) ## stop them
	$(BIN)/python -m flows.services down

sheet: $(READY) ## draw people with the embedded base model into outputs/
	$(BIN)/difflora world sheet outputs/people.png
	@echo "open outputs/people.png"

test: $(READY) ## run the tests, without a network and without a GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not gpu and not slow"

test-all: $(READY) ## the same, and those that take minutes each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not gpu"

lint: $(READY) ## ruff's rules and format, and mypy in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## reformat and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY) ## mypy in strict mode
	$(BIN)/mypy
