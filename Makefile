# make demo   change the age of the face in a sample photo; writes the pictures to out/
# make app    open a page in the browser: drop a photo, move the age; Ctrl-C ends it
# make test   run the tests
# make lint   check style, format and types
# make docs   build the site of docs/ and say where to open it
# make fuzz   give damaged files to all that reads files, ten minutes each kind; FUZZ_SECONDS=60 for less
#
# Each creates .venv when it is missing and installs the package there. Another Python: make test PYTHON=python3.12
# make demo CPU=1   (or app, test, ...) on Linux without an NVIDIA GPU: PyTorch for CPUs, so 0.5 GB to download, not 3.3 GB
#
# Without make, on Windows say: python -m venv .venv, then .venv\Scripts\pip install -e ., then .venv\Scripts\facegen demo.

PYTHON ?= python3
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
FUZZ_SECONDS ?= 600
TORCH_FOR_CPUS := --index-url https://download.pytorch.org/whl/cpu torch torchvision
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check

# What is downloaded, in a release of November 2026; macOS and Windows get PyTorch for CPUs anyway. Some systems set CPU
# to the name of a processor.
ifeq ($(CPU),1)
DOWNLOADS := 0.5 GB, 0.2 GB of it PyTorch for CPUs
else ifeq ($(shell uname -s),Linux)
DOWNLOADS := 3.3 GB, 3 GB of it PyTorch with CUDA; without an NVIDIA GPU, stop and add CPU=1: 0.5 GB
else
DOWNLOADS := 0.4 GB, 0.1 GB of it PyTorch
endif

# $(call install,EXTRAS): PyTorch for CPUs comes first, so that pip finds it there and takes no other.
define install
@echo "Installing facegen into $(VENV). The first time this downloads about $(DOWNLOADS)."
$(if $(filter 1,$(CPU)),$(PIP) install $(TORCH_FOR_CPUS))
$(PIP) install -e ".$(1)"
endef

.PHONY: help demo app test lint docs fuzz
.NOTPARALLEL:

help:
	@sed -n 's/^# \(make \)/\1/p; s/^# \(Without make\)/\1/p' Makefile

demo: $(VENV)/.installed
	$(VENV)/bin/facegen demo --outdir out

app: $(VENV)/.installed-app
	$(VENV)/bin/facegen app --open

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

# The stamps say that what pyproject.toml asks for is installed. What the tests need includes what the others need.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(call install)
	@touch $@

$(VENV)/.installed-app: pyproject.toml | $(VENV)/bin/pip
	$(call install,[app])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	$(call install,[dev])
	@touch $(VENV)/.installed $(VENV)/.installed-app $@

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
