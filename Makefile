# Every target works in a bare clone: what it needs is python3 with pip, and make. The first one to run makes a virtual
# environment, or takes the active one, and installs the package and its tools with the versions of constraints.txt.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
# a change of the requirements, or of the checkout which uses the environment, installs again
STAMP := $(VENV)/.advneg-$(shell (pwd; cat pyproject.toml constraints.txt) | cksum | cut -d ' ' -f 1)

# small models gain nothing from a second thread, and two test processes share the cores
export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

# `make test-libkge LIBKGE=path`: an environment of its own, since LibKGE needs SQLAlchemy 1.4 and an old ax-platform
VENV_LIBKGE ?= .venv-libkge
LIBKGE ?=
STAMP_LIBKGE := $(VENV_LIBKGE)/.advneg-$(shell (pwd; echo $(LIBKGE); cat pyproject.toml plugins/libkge/pyproject.toml \
	plugins/libkge/constraints.txt) | cksum | cut -d ' ' -f 1)

.PHONY: help demo check lint test test-libkge install clean

help:
	@echo "make demo     compare KBGAN with uniform and Bernoulli negatives on two small data sets"
	@echo "make check    format, lint, types and the fast tests (two minutes)"
	@echo "make test     all tests, the slow ones and the notebooks included (15 minutes)"
	@echo "make test-libkge LIBKGE=PATH  the tests of plugins/libkge with a checkout of LibKGE, in .venv-libkge"
	@echo "make install  only the virtual environment: $(VENV)"
	@echo "make clean    remove build products and caches, not the environment"

install: $(STAMP)

$(STAMP):
	@echo "installing into $(VENV), which takes minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[test,lint]'
	rm -f $(VENV)/.advneg-*
	touch $@

demo: $(STAMP)
	$(BIN)/advneg demo

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	$(PYTEST) -m "not slow"

test: $(STAMP)
	$(PYTEST)

test-libkge: $(STAMP_LIBKGE)
	$(VENV_LIBKGE)/bin/advneg-libkge check
	$(VENV_LIBKGE)/bin/python -m pytest -p no:cacheprovider plugins/libkge/tests

$(STAMP_LIBKGE):
	@test -f "$(LIBKGE)/kge/job/train.py" || { echo "LIBKGE=$(LIBKGE) is no checkout of https://github.com/uma-pi1/kge"; exit 2; }
	test -x $(VENV_LIBKGE)/bin/python || $(PYTHON) -m venv $(VENV_LIBKGE)
	$(VENV_LIBKGE)/bin/python -m pip install -qq -c plugins/libkge/constraints.txt -e $(LIBKGE) -e . -e 'plugins/libkge[test]'
	rm -f $(VENV_LIBKGE)/.advneg-*
	touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
