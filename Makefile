# make demo   change the age of the face in a sample photo; writes the pictures to out/
# make test   run the tests
# make lint   check style, format and types
# make docs   build the site of docs/ and say where to open it
# make fuzz   give damaged files to all that reads files, ten minutes each kind; FUZZ_SECONDS=60 for less
#
# Each creates .venv when it is missing and installs the package there. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
FUZZ_SECONDS ?= 600
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check

.PHONY: help demo test lint docs fuzz
.NOTPARALLEL:

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

demo: $(VENV)/.installed
	$(VENV)/bin/facegen demo --outdir out

test: $(VENV)/.installed-dev
	$(VENV_PYTHON) -m pytest -n logical --maxprocesses 8 --dist worksteal

lint: $(VENV)/.installed-dev
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

docs: $(VENV)/.installed-dev
	$(VENV_PYTHON) -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

fuzz: $(VENV)/.installed-fuzz
	PYTHONPATH=tests $(VENV_PYTHON) -m fuzz.run --seconds $(FUZZ_SECONDS)

# The stamps say that what pyproject.toml asks for is installed. What the tests need includes what the demo needs.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing facegen into $(VENV) (the first time PyTorch is downloaded: several GB, some minutes)"
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing facegen into $(VENV) (the first time PyTorch is downloaded: several GB, some minutes)"
	$(PIP) install -e ".[dev]"
	@touch $(VENV)/.installed $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(PIP) install -e ".[dev,fuzz]"
	@touch $@

# pip comes last into a new environment, so an interrupted creation is repeated. Editable installs need pip 21.3.
$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.10 to 3.13, or say which: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" || { \
		echo "facegen needs Python 3.10 to 3.13, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Say which to use: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "pip>=21.3"
