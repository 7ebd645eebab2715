# vr1kit: two commands are enough: `make reproduce` and `make test`. Each sets up .venv by itself.

RUN     ?= tiny
PROFILE ?= tiny
VENV    := .venv
BIN     := $(VENV)/bin
# The first of these that is 3.11 or newer and can make virtual environments; or say: make PYTHON=/path/to/python3
PYTHON  ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The stamp is named after the pins' content, not their dates: a fresh checkout or an edit elsewhere redoes nothing.
STAMP   := $(VENV)/.installed-$(shell grep -hE '==|^vr1kit =' pyproject.toml requirements.lock.txt | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint format figures lab status clean

help:
	@echo "make reproduce   run the whole study from the notebooks, then write runs/$(RUN)/report.html"
	@echo "                 (RUN=$(RUN) PROFILE=$(PROFILE); the same command continues an interrupted run)"
	@echo "make test        unit tests, then the five notebooks under strict nbval"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make figures     draw the figures and tables again from what is in runs/$(RUN)"
	@echo "make status      what is done in runs/$(RUN), what is stale, and why"
	@echo "make lint        ruff over code and notebooks        make format   let ruff mend what it can"
	@echo "make setup       only set up $(VENV)                   make clean    remove $(VENV) and caches, keep runs"

setup: $(STAMP)
	@echo "$(VENV) holds the pinned dependencies"

$(STAMP):
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer with venv and pip (on Debian: apt install python3-venv);" \
		"or name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "[1/3] virtual environment in $(VENV), with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.installed-*
	@echo "[2/3] torch, as pinned (the largest download, a minute or more)"
	@$(PIP) install --constraint requirements.lock.txt "$$(grep '^torch==' requirements.lock.txt)"
	@echo "[3/3] everything else, as pinned (about a minute)"
	@$(PIP) install --constraint requirements.lock.txt --editable ".[test]"
	@touch $@
	@echo "$(VENV) is ready: $$($(BIN)/python -c 'import platform, torch; print("Python", platform.python_version() + ", torch", torch.__version__)')"

reproduce: $(STAMP)
	@VR1KIT_COMMAND="make reproduce RUN=$(RUN) PROFILE=$(PROFILE)" $(BIN)/python -m vr1kit.cli reproduce --run "$(RUN)" --profile "$(PROFILE)"

figures: $(STAMP)
	@$(BIN)/python -m vr1kit.cli reproduce --run "$(RUN)" --profile "$(PROFILE)" --only 05 --force

status: $(STAMP)
	@$(BIN)/python -m vr1kit.cli status "$(RUN)"

# Quick ones first. pytest exits 5 where it finds no test, which is no failure for the slow ones.
test: $(STAMP)
	@echo "unit tests: the quick ones"
	@$(BIN)/python -m pytest -q -m "not slow"
	@echo "unit tests: the slow ones"
	@$(BIN)/python -m pytest -q -m slow || test $$? -eq 5
	@echo "notebooks: executed, and every output compared with the committed one"
	@$(BIN)/python -m pytest -q --nbval --nbval-current-env notebooks/

lint: $(STAMP)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

format: $(STAMP)
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

lab: $(STAMP)
	@$(BIN)/python -m jupyterlab notebooks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "runs/ is untouched; delete a run's folder by hand to start it over"
