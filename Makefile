# make reproduce [PROFILE=smoke|gpu|paper|tiny]   tables, figures and a verdict for every claim, in results/$(PROFILE)/
# make test                                       units and one tiny end-to-end run through the real notebooks
# make check                                      lint, and the slow tests (whole smoke run, fresh install, JupyterLab)
# make gpu-check                                  what a GPU shows; stopped after 25 minutes, the same command continues
# make lab                                        JupyterLab on notebooks/, which it saves without outputs
#
# In an active conda or virtual environment (not conda's base) everything happens there; otherwise in .venv/.

PROFILE ?= smoke
SHELL := /bin/bash
unexport PYTHONHOME  # of another Python
.DEFAULT_GOAL := help
HERE := $(shell CDPATH= cd "$$(dirname "$(strip $(MAKEFILE_LIST))")" && pwd)

# A conda environment that is the installation itself is its base, whatever it is called.
ifneq ($(VIRTUAL_ENV),)
  PREFIX := $(VIRTUAL_ENV)
else ifneq ($(and $(filter-out base,$(CONDA_DEFAULT_ENV)),$(filter-out $(CONDA_EXE:/bin/conda=),$(CONDA_PREFIX))),)
  PREFIX := $(CONDA_PREFIX)
else
  PREFIX := $(HERE)/.venv
endif
RUN := cd "$(HERE)" && PATH="$(PREFIX)/bin:$$PATH" "$(PREFIX)/bin/python"

.PHONY: help reproduce test check gpu-check lab environment
help:
	@sed -n 's/^# //p' "$(HERE)/Makefile" | head -5

reproduce: environment
	@$(RUN) -m reproduction.cli reproduce --profile "$(PROFILE)"

test: environment
	@$(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

check: environment
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .
	@$(RUN) -m pytest -q -m slow

gpu-check: environment
	@$(RUN) benchmarks/gpu/check.py

lab: environment
	@echo "Open the address with ?token= below; then a notebook, Run > Run All Cells. Ctrl-C ends it."
	@[ -w "$$HOME" ] || export HOME="$$(mktemp -d)"; \
	$(RUN) -m jupyterlab notebooks --ContentsManager.pre_save_hook=reproduction.runner.notebooks.without_outputs

# No file targets: make cannot hold names with spaces, and dates say nothing about what is installed. The stamp says it.
environment:
	@cd "$(HERE)"; prefix="$(PREFIX)"; python="$$prefix/bin/python"; stamp="$$prefix/.reid-core-installed"; \
	if [ "$$prefix" = "$(HERE)/.venv" ] && [ ! -x "$$python" ]; then $(make_venv); fi; \
	if [ ! -x "$$python" ]; then \
	  echo "The active environment $$prefix has no Python: deactivate it, or put Python 3.11 to 3.13 and pip into it." >&2; \
	  exit 1; fi; \
	wanted="$$(cat requirements.lock pyproject.toml | cksum) $(HERE)"; \
	[ "$$wanted" != "$$(cat "$$stamp" 2>/dev/null)" ] || exit 0; \
	"$$python" -c '$(fitting)' 2>/dev/null; if [ $$? = 3 ]; then \
	  echo "$$python is not Python 3.11 to 3.13: deactivate or remove that environment, or take another." >&2; exit 1; fi; \
	echo "Installing the environment into $$prefix (about 6 GB; one to ten minutes) ..."; \
	unset PIP_USER PIP_TARGET PIP_PREFIX; \
	if [ -n "$$PIP_INDEX_URL" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$PIP_INDEX_URL}"; fi; \
	if [ -n "$$PIP_CERT" ]; then export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; fi; \
	if command -v uv >/dev/null && $(call install,uv pip install --python "$$python"); then exit 0; fi; \
	if ! "$$python" -m pip --version >/dev/null 2>&1; then \
	  echo "The environment $$prefix has no pip, as uv makes them: uv pip install pip (or: python -m ensurepip)." >&2; \
	  exit 1; fi; \
	$(call install,"$$python" -m pip install)

# The kit itself has no hash. Where uv fails, as behind a mirror that only pip's own file tells of, pip is tried.
install = $(1) --quiet --require-hashes -r requirements.lock && \
	$(1) --quiet --no-deps -e '.[reproduction]' && echo "$$wanted" > "$$stamp"

fitting = import sys; sys.exit(3 * (not (3, 11) <= sys.version_info < (3, 14)))

define make_venv
  for python3 in python3 python3.13 python3.12 python3.11; do \
    if $$python3 -c '$(fitting)' 2>/dev/null; then \
      $$python3 -m venv .venv --clear && break; \
      echo "$$python3 could not make .venv/ (on Debian and Ubuntu: apt install python3-venv)." >&2; rm -rf .venv; exit 1; \
    fi; done; \
  if [ ! -x "$$python" ]; then \
    echo "No Python 3.11 to 3.13 was found. Install one, or use: conda env create -f environment.yml" >&2; exit 1; fi
endef
