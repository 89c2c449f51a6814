# `make book` and `make test` do everything, from nothing. `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.abmtools-installed
PORT ?= 8000
TRAIN_BACKEND ?= jax

# Networks of this size gain nothing from a second thread; jobs beside each other lose much by it.
OMP_NUM_THREADS ?= 1
KERAS_BACKEND ?= torch
export OMP_NUM_THREADS KERAS_BACKEND
# Notebooks run with this environment's kernel, whatever kernels the user has elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH

.PHONY: book test lint format bench train serve clean help
.DEFAULT_GOAL := help

# After a failure Sphinx would take pages with warnings for done, so its record of them goes.
book: $(INSTALLED) ## execute and build the book
	@$(BIN)/jupyter-book build . --warningiserror --nitpick --keep-going || { \
	    rm -rf _build/.doctrees; \
	    echo "The book did not build: see the warnings and errors above."; \
	    exit 1; }
	@echo "The book is built. Open _build/html/index.html, or run 'make serve'."

test: $(INSTALLED) ## run the tests (PYTEST_FLAGS=... adds options)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_FLAGS)

lint: $(INSTALLED) ## check style and likely errors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED) ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(INSTALLED) ## run the benchmarks, or one of them (BENCH=name)
	@set -e; for script in benchmarks/$(or $(BENCH),bench_*).py; do \
	    echo "== $$script"; $(BIN)/python "$$script"; done

train: $(INSTALLED) ## train a shipped network from scratch (MODEL=gaussian_mixture)
	@test -n "$(MODEL)" || { echo "Name a model: make train MODEL=gaussian_mixture"; exit 1; }
	@$(BIN)/python -c "import jax" 2>/dev/null || $(BIN)/python -m pip install -qq \
	    --disable-pip-version-check --no-input $(PIP_FLAGS) --editable '.[train]'
	@KERAS_BACKEND=$(TRAIN_BACKEND) $(BIN)/python benchmarks/train.py --model "$(MODEL)"

serve: ## serve the built book on this machine (PORT=8000)
	@test -f _build/html/index.html || { echo "Build the book first: make book"; exit 1; }
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

clean: ## delete what was built (the environment stays: rm -r .venv)
	rm -rf _build .pytest_cache .ruff_cache

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@python=$$(sh tools/find_python.sh) && echo "Making $(VENV) with $$python" && \
	    "$$python" -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Installing abmtools and what it needs into $(VENV) (first time: minutes and about 6 GB)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input $(PIP_FLAGS) \
	    --editable '.[book,test]'
	@touch $@
