# Every target prepares what it needs: a virtual environment in .venv, this package, its tools.
# The stamps under .venv make that happen once, and again when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: ask test lint default-model clean

# Answer a question about the example picture, and draw what the answer rests on.
ask: $(VENV)/installed
	$(BIN)/lxmert ask examples/scene.png "What color is the ball?" --figure answer.png

# Everything that runs offline on a CPU; see CONTRIBUTING.md for the other tiers.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Make the model that `ask` uses, from nothing.
default-model: $(VENV)/installed
	$(BIN)/lxmert default-model -o runs/default

clean:
	rm -rf $(VENV) answer.png

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $(VENV)/installed $@
