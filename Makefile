# Everything runs in .venv, made from what this file and pyproject.toml name.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check test-gpu bench bench-gpu sanitize docs test-lowest clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP) ## create .venv and install ptg for development

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(STAMP) ## simulate a screen, analyse it, write demo/report.html
	$(BIN)/ptg simulate --out demo/data
	$(BIN)/ptg run --rna demo/data/rna.h5ad --guides demo/data/guides.h5ad --guide-target target \
	  --perturbation perturbation --control NT --replicate replicate --out demo
	@echo "The report is $(CURDIR)/demo/report.html"

test: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest -n auto

check: $(STAMP) ## lint, format, types, import rule, spelling, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest -n auto

# On a machine with a GPU, in the environment of GPU_PYTHON, which has ptg[cuda12] or ptg[cuda13] and ptg[test].
GPU_PYTHON ?= python3

test-gpu: ## on a machine with a GPU: the tests that need one
	$(GPU_PYTHON) -m pytest -m gpu

sanitize: ## on a machine with a GPU: compute-sanitizer memcheck and racecheck over every CUDA kernel
	$(GPU_PYTHON) -m tests.sanitize memcheck
	$(GPU_PYTHON) -m tests.sanitize racecheck

bench-gpu: ## on a machine with a GPU: ptg and rapids_singlecell side by side
	$(GPU_PYTHON) -m benchmarks.run --gpu

bench: $(STAMP) ## ptg and pertpy side by side on this machine
	$(BIN)/python benchmarks/run.py

docs: $(STAMP) ## build docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

test-lowest: ## the suite on the lowest versions that pyproject.toml admits
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[test]"
	.venv-lowest/bin/python -m pytest -n auto

clean: ## remove what the other targets made
	rm -rf $(VENV) .venv-lowest demo docs/_build build dist
