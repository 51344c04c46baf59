# `make compile` and `make test` do all the set-up that they need; a second run skips it.
PYTHON ?= python3
VENV ?= .venv
# Another build of torch: make TORCH="torch==2.13.0 --index-url URL" for CUDA, ROCm and so on.
TORCH ?= torch==2.13.0
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: compile test lint bench pocket clean
.DEFAULT_GOAL := help

help:  ## Show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setting up $(VENV) (once, a minute or two)"
	@$(PIP) $(TORCH)
	@$(PIP) -c constraints.txt -e '.[local,cli]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "setting up the tests (once)"
	@$(PIP) -c constraints.txt -e '.[local,cli,train,dev]'
	@touch $@

compile: $(VENV)/.run  ## Compile a personalized program on the embedded model, offline (ARGS="--task lamp3" ...)
	@$(BIN)/python cli.py compile $(ARGS)

test: $(VENV)/.dev  ## Run the tests, offline (ARGS="-m slow" for the long ones)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev  ## Linter and type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.dev  ## The measurements of the README
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.engine
	@$(BIN)/python -m benchmarks.pocket
	@$(BIN)/python -m benchmarks.overhead
	@$(BIN)/python -m benchmarks.ablation

pocket: $(VENV)/.dev  ## Make the pocket model again (hours)
	@$(BIN)/python -m finetune.pocket $(ARGS)

clean:  ## Remove the environment
	rm -rf $(VENV)
