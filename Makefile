# make reproduce [PROFILE=smoke|gpu|paper|tiny]   tables, figures and a verdict for every claim, in results/$(PROFILE)/
# make test                                       units and one tiny end-to-end run through the real notebooks
# make check                                      lint, and the slow tests (whole smoke run, fresh install, JupyterLab)
# make lab                                        JupyterLab on notebooks/, which it saves without outputs
#
# In an active conda or virtual environment (not conda's base) everything happens there; otherwise in .venv/.

PROFILE ?= smoke
SHELL := /bin/bash
.DEFAULT_GOAL := help

ifneq ($(VIRTUAL_ENV),)
  PREFIX := $(VIRTUAL_ENV)
else ifneq ($(filter-out base,$(CONDA_DEFAULT_ENV)),)
  PREFIX := $(CONDA_PREFIX)
else
  PREFIX := $(CURDIR)/.venv
endif
PYTHON := $(PREFIX)/bin/python
STAMP := $(PREFIX)/.reid-core-installed
RUN := PATH="$(PREFIX)/bin:$$PATH" $(PYTHON)

.PHONY: help reproduce test check lab environment clean
help:
	@sed -n 's/^# //p' Makefile | head -4

reproduce: environment
	@$(RUN) -m reproduction.cli reproduce --profile $(PROFILE)

test: environment
	@$(RUN) -m pytest -q -m "not slow"

check: environment
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .
	@$(RUN) -m pytest -q -m slow

lab: environment
	@$(RUN) -m jupyterlab notebooks --ContentsManager.pre_save_hook=reproduction.runner.notebooks.without_outputs

environment: $(STAMP)

$(STAMP): requirements.lock pyproject.toml | $(PYTHON)
	@echo "Installing the environment into $(PREFIX) (about 6 GB; two to ten minutes) ..."
	@$(PYTHON) -m pip install --quiet --upgrade pip
	@$(PYTHON) -m pip install --quiet -r requirements.lock -e .
	@touch $@

$(CURDIR)/.venv/bin/python:
	@for python in python3 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then \
	    $$python -m venv .venv && exit 0; \
	    echo "$$python could not make .venv/ (on Debian and Ubuntu: apt install python3-venv)." >&2; rm -rf .venv; exit 1; \
	  fi; done; \
	echo "No Python 3.11 or 3.12 was found. Install one, or use: conda env create -f environment.yml" >&2; exit 1
