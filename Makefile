# `make book` and `make test` do everything, from nothing. `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.abmtools-installed
PORT ?= 8000
PROFILE ?= cpu

# What installs. INSTALLER='uv pip install --python .venv/bin/python --torch-backend cpu' needs less.
INSTALLER ?= $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input $(PIP_FLAGS)

# The networks that ship. The last one compares two of those before it, so the order matters.
MODELS := component_count evidence_hmm gaussian_hmm gaussian_mixture lca_hmm speeded_comparison

# Networks of this size gain nothing from a second thread; jobs beside each other lose much by it.
OMP_NUM_THREADS ?= 1
KERAS_BACKEND ?= torch
export OMP_NUM_THREADS KERAS_BACKEND
# Large arrays go back to the system when they are deleted (glibc would keep those up to 32 MB).
book: export MALLOC_MMAP_THRESHOLD_ ?= 1048576
# Threads share one heap, where each would keep what it has freed.
book: export MALLOC_ARENA_MAX ?= 1
# Notebooks run with this environment's kernel, whatever kernels the user has elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH

.PHONY: install book test lint format notebooks picture export bench train train-all gpu serve clean help
.DEFAULT_GOAL := help

# PROFILE=gpu trains every network from scratch on the GPU, then executes the book with them.
ifeq ($(PROFILE),gpu)
    ABMTOOLS_WEIGHTS ?= _build/weights
    TRAIN_BACKEND ?= $$($(BIN)/python tools/require_gpu.py)
    book: train-all
    train-all: gpu
else ifneq ($(PROFILE),cpu)
    $(error PROFILE: expected cpu or gpu, got $(PROFILE))
endif
TRAIN_BACKEND ?= jax
ifdef ABMTOOLS_WEIGHTS
    override ABMTOOLS_WEIGHTS := $(abspath $(ABMTOOLS_WEIGHTS))
    export ABMTOOLS_WEIGHTS
endif

# After a failure Sphinx would take pages with warnings for done, so its record of them goes.
# CHECK_FLAGS="--browser required": without Chromium, the check of the pages fails.
book: $(INSTALLED) ## execute and build the book (PROFILE=gpu: train all networks first)
	@PYTHONSTARTUP="$(CURDIR)/tools/strict_tensors.py" \
	    $(BIN)/jupyter-book build . --warningiserror --nitpick --keep-going || { \
	    rm -rf _build/.doctrees; \
	    echo "The book did not build: see the warnings and errors above."; \
	    exit 1; }
	@$(BIN)/python tools/check_pages.py _build/html $(CHECK_FLAGS)
	@echo "The book is built. Open _build/html/index.html; explorers live where 'make serve' shows it."

install: $(INSTALLED) ## make the environment (the others do so, too, where it is missing)

# Files in their order: reordered, those of few and slow tests would come last, on one core.
test: $(INSTALLED) ## run the tests (PYTEST_FLAGS=... adds options)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
	    --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

lint: $(INSTALLED) ## check style, likely errors and the workflows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml
	@$(BIN)/zizmor --offline --quiet --no-progress --persona pedantic .github

format: $(INSTALLED) ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

notebooks: $(INSTALLED) ## write the chapters' notebooks and Binder's environment again
	@$(BIN)/python tools/make_notebooks.py
	@$(BIN)/python tools/make_binder.py

picture: $(INSTALLED) ## draw the picture of README again
	@$(BIN)/python tools/make_picture.py

export: $(INSTALLED) ## write the networks that run in the book's pages again, after a training
	@$(BIN)/python tools/export_networks.py

bench: $(INSTALLED) ## run the benchmarks, or some (BENCH="bench_speed bench_stan"), and table all
	@set -e; for name in $(or $(BENCH),$(notdir $(basename $(wildcard benchmarks/bench_*.py)))); do \
	    echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" $(BENCH_FLAGS); done
	@$(BIN)/python benchmarks/record.py

# The C library keeps the memory of a step for the next one, also where threads have their own.
train: export MALLOC_TRIM_THRESHOLD_ ?= -1
train: export MALLOC_MMAP_MAX_ ?= 0
train: export MALLOC_ARENA_MAX ?= 1
train: $(INSTALLED) ## train a shipped network from scratch (MODEL=gaussian_mixture)
	@test -n "$(MODEL)" || { echo "Name a model: make train MODEL=gaussian_mixture"; exit 1; }
	@$(BIN)/python -c "import jax" 2>/dev/null || $(INSTALLER) --editable '.[train]'
	@$(if $(ABMTOOLS_WEIGHTS),mkdir -p "$(ABMTOOLS_WEIGHTS)")
	@backend="$(TRAIN_BACKEND)" && KERAS_BACKEND=$$backend \
	    $(BIN)/python benchmarks/train.py --model "$(MODEL)" $(TRAIN_FLAGS)

train-all: $(INSTALLED) ## train every shipped network (ABMTOOLS_WEIGHTS=folder to put them there)
	@set -e; for model in $(MODELS); do $(MAKE) --no-print-directory train MODEL=$$model; done
	@$(if $(filter gpu,$(PROFILE)),$(BIN)/python tools/require_gpu.py \
	    --trained "$(ABMTOOLS_WEIGHTS)" $(MODELS))

gpu: $(INSTALLED) ## stop unless there is a GPU that the chapters would use
	@nvidia-smi
	@$(BIN)/python tools/require_gpu.py > /dev/null

serve: ## serve the built book on this machine (PORT=8000)
	@test -f _build/html/index.html || { echo "Build the book first: make book"; exit 1; }
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

clean: ## delete what was built (the environment stays: rm -r .venv)
	rm -rf _build .pytest_cache .ruff_cache

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@python=$$(sh tools/find_python.sh) && echo "Making $(VENV) with $$python" && \
	    "$$python" -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Installing abmtools and what it needs into $(VENV) (first time: minutes and about 6 GB)"
	@$(INSTALLER) --editable '.[book,test]'
	@touch $@
