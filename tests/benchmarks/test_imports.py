"""Every benchmark can be started: what it imports is there."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = sorted(".".join(path.relative_to(FOLDER.parent).with_suffix("").parts) for path in FOLDER.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_it_is_imported(module):
    assert importlib.import_module(module).__doc__ or module.endswith("__init__")
