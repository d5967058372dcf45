# Thin: each target calls one script. VENV is the environment they use, STACK the one that `make env` builds.
VENV ?= .venv
PYTHON = $(abspath $(VENV))/bin/python
export VENV STACK

.DEFAULT_GOAL := help
.PHONY: help env ready demo test test-modern bench lint kaldifeat

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

env: ## build the environment: STACK=auto|k2|modern, VENV=.venv
	@utils/setup_env.sh

ready:
	@utils/setup_env.sh --if-missing

demo: ready ## the numbers recipe: a corpus made, a transducer trained, test sets decoded and scored
	egs/numbers/run.sh

test: ready ## all tests, on the stack in VENV, on all cores
	$(PYTHON) -m pytest -n auto --dist loadfile

test-modern: ## all tests, on the modern stack in .venv-modern
	@$(MAKE) --no-print-directory test VENV=.venv-modern STACK=modern

bench: ready ## time and memory of losses, searches, encoders
	utils/bench.sh

lint: ready ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy asr local

kaldifeat: ## compile kaldifeat for the torch in VENV (modern stack; about five minutes)
	@utils/build_kaldifeat.sh
