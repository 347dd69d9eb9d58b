# make run: evolve, train, measure and export on the embedded digits.  make test: the tests.
# Everything is installed by uv where it is on the PATH, and by pip otherwise. UV_TORCH_BACKEND=cpu takes PyTorch without CUDA.
SHELL := bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv)
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(PIP_OPTIONS)
INSTALL := set -o pipefail; $(if $(UV),$(UV) pip install --python $(BIN)/python,$(PIP)) -c constraints.txt
# Of the hundreds of lines of pip those on large files and on the end. uv prints bars.
SHOW := $(if $(UV),,| { grep --line-buffered -oE "(Downloading|Using cached) .*\.[0-9] [MG]B.|Installing collected packages" || true; })
ABOUT := Installing packages into $(VENV), about 2 GB the first time: 2 to 7 minutes with pip, 1 or 2 with uv.
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
NEEDS := pyproject.toml pipelines/pyproject.toml constraints.txt
LIBRARY := -e ".[evolve,onnx]"
EVERYTHING := $(LIBRARY) -e "./pipelines[dask,test,docs]"
JOBS ?= 2
SERVICES := iproute2 munge openssh-server postgresql slurm-wlm
CLIENTS := dask-jobqueue dvc-s3 dvc-ssh "mlflow[auth]" "moto[server]" paramiko "psycopg[binary]"
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --durations=10
UNLOCKED := ^(torch|torchvision|torchaudio|triton|nvidia-.*|cuda-.*|pip|setuptools)(==| @ )

.PHONY: run pretrained test test-all test-services test-lowest lint docs install install-dev lock release-check clean
run: install
	@$(BIN)/gee run

# Trains a network of gee_core/pretrained again: make pretrained NAME=cifarnet.cifar10 DATA=folder
pretrained: install-dev
	@$(BIN)/python -m benchmarks.pretrained rebuild $(NAME) $(if $(DATA),--data $(DATA))

test: install-dev
	@$(PYTEST) --ignore=tests/services -m "not slow"

test-all: install-dev
	@$(PYTEST) --ignore=tests/services --no-loadscope-reorder

# Two nodes, SLURM, SSH, PostgreSQL and S3 for real, on this machine. As root it installs what they need; without, tests are skipped.
test-services: install-dev
	@dpkg --status $(SERVICES) >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || \
	   { apt-get update -q && apt-get install -q --yes --no-install-recommends $(SERVICES); } >/dev/null
	@$(INSTALL) --quiet $(CLIENTS)
	@$(PYTEST) tests/services

# The library on the lowest versions that the two pyproject.toml promise: needs `uv`. Old releases warn of what new ones forbid.
test-lowest:
	@uv venv --quiet --clear --python 3.11 $(VENV)-lowest
	@uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct -e ".[digits,evolve,nir,onnx]" -e "./pipelines[test]"
	@$(VENV)-lowest/bin/python -m pytest -q -n $(JOBS) -m "not slow" -o filterwarnings= tests/gee_core

lint: install-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: install-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(RUN)
$(RUN): $(NEEDS) | $(BIN)/python
	@echo "$(ABOUT)"
	@$(INSTALL) $(LIBRARY) -e ./pipelines $(SHOW)
	@test -e .git || $(BIN)/dvc config core.no_scm true
	@touch $@

install-dev: $(DEV)
$(DEV): $(NEEDS) | $(BIN)/python
	@echo "$(ABOUT)"
	@$(INSTALL) $(EVERYTHING) $(SHOW)
	@test -e .git || $(BIN)/dvc config core.no_scm true
	@touch $(RUN) $@

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

# The newest versions of everything, from an environment of their own; run the tests before committing what it writes.
lock:
	@rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip --disable-pip-version-check install --quiet $(EVERYTHING)
	@{ echo "# The versions that GEE is tested with. Made by \`make lock\`: a fresh environment with every extra, without torch and"; \
	   echo "# what comes with it (torchvision, torchaudio, triton, CUDA), which depend on the hardware. Do not edit."; \
	   $(VENV)-lock/bin/python -m pip freeze --exclude-editable | grep -viE "$(UNLOCKED)"; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt && rm -rf $(VENV)-lock

# What a tag publishes, in dist/: one version everywhere, sdist and wheel, and the wheel alone in an environment of its own.
release-check: install-dev
	@rm -rf dist $(VENV)-release
	@$(PYTEST) tests/test_packaging.py
	@$(BIN)/python -m build --quiet --no-isolation
	@$(PYTHON) -m venv $(VENV)-release
	@$(VENV)-release/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	@$(VENV)-release/bin/python -I -c "import gee_core; gee_core.load_pretrained('cifarnet.digits'); print(gee_core.__version__)"
	@$(VENV)-release/bin/python -m pip install --quiet -c constraints.txt twine==7.0.0
	@$(VENV)-release/bin/python -m twine check --strict dist/*

# .scratch holds interrupted runs, and what MLflow has not received (`gee track replay` first); .prefect the history of flow runs.
clean:
	rm -rf $(VENV) $(VENV)-lock $(VENV)-lowest $(VENV)-release .scratch .prefect .mypy_cache .ruff_cache .pytest_cache build dist site *.egg-info pipelines/*.egg-info
