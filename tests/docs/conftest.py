"""The site's hooks, which are no package, as modules."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.project_copy import ROOT


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def hook() -> Callable[[str], ModuleType]:
    """Loads docs/hooks/NAME.py, or docs/figures/draw.py as ``figures/draw``."""

    def load(name: str) -> ModuleType:
        path = ROOT / "docs" / (f"{name}.py" if "/" in name else f"hooks/{name}.py")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
