# make run: evolve, train, measure and export on the embedded digits.  make test: the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: run test test-slow test-all lint install clean
run: $(READY)
	@$(BIN)/gee run

test: $(READY)
	@$(BIN)/python -m pytest -q -m "not slow"

test-slow: $(READY)
	@$(BIN)/python -m pytest -q -m slow

test-all: test test-slow

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

install: $(READY)
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[pipeline,test]"
	@test -d .git || $(BIN)/dvc config core.no_scm true
	@touch $@

clean:
	rm -rf $(VENV) .scratch .prefect build *.egg-info
