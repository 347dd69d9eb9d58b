"""What importing a stage loads: each package here takes a part of a second or more, of every run."""

import json
import sys

import pytest

from tests.project_copy import ROOT, run

HEAVY = {"cma", "dask", "dvc", "matplotlib", "mlflow", "onnx", "onnxruntime", "onnxscript", "pandas", "prefect", "scipy"}
HEAVY |= {"sklearn", "torch", "torch._dynamo", "torchvision"}

LOADED = {
    "check": set(),
    "evolve": {"cma", "scipy", "matplotlib"},  # cma loads the others. What its workers are forked from loads torch
    "report": {"pandas", "matplotlib"},
    "prepare": {"torch"},
    "train": {"torch"},
    "evaluate": {"torch"},
    "robustness": {"torch"},
    "export": {"torch", "onnx", "onnxruntime", "onnxscript"},
}

CODE = f"""
import importlib, json, os, sys
for name in {list(LOADED)}:
    if name == "prepare":
        import gee_core.training.loop  # once, with torch, for all that follow
    sys.stdout.flush()
    if os.fork() == 0:
        importlib.import_module(f"pipelines.{{name}}")
        print(json.dumps([name, sorted(set({sorted(HEAVY)}) & set(sys.modules))]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """The heavy packages that the import of each stage loads, in a process of its own."""
    printed = run(ROOT, sys.executable, "-c", CODE).splitlines()
    return {name: set(packages) for name, packages in map(json.loads, printed)}


@pytest.mark.slow
@pytest.mark.parametrize("stage", LOADED)
def test_a_stage_loads_no_package_that_it_does_not_use(stage, loaded):
    assert loaded[stage] == LOADED[stage]
