"""``import gee_core``: what it offers, what it costs, and what it says where an optional package is missing."""

import ast
import sys
from pathlib import Path

import pytest

import gee_core
from tests.project_copy import ROOT, run

INIT = Path(gee_core.__file__)


def run_python(code: str) -> str:
    """What ``code`` prints in a fresh interpreter."""
    return run(ROOT, sys.executable, "-c", code).strip()


def test_every_public_name_can_be_imported_and_is_documented():
    for name in gee_core.__all__:
        assert name in dir(gee_core)
        assert name in ("NETWORKS", "__version__") or getattr(gee_core, name).__doc__
    with pytest.raises(AttributeError, match="module 'gee_core' has no attribute 'encod'"):
        _ = gee_core.encod


def test_type_checkers_see_the_names_that_are_imported_lazily_from_the_same_modules():
    block = next(node for node in ast.parse(INIT.read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"gee_core.{home}" for name, home in gee_core._HOMES.items()}
    assert sorted([*seen, "__version__"]) == sorted(gee_core.__all__)
    assert INIT.with_name("py.typed").is_file()


def test_import_gee_core_loads_no_torch_until_a_name_needs_it():
    code = (
        "import sys, gee_core\n"
        "gee_core.NETWORKS, gee_core.InputError, gee_core.__version__, dir(gee_core)\n"
        "print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))\n"
        "gee_core.Genotype, gee_core.Shape\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))\n"
        "gee_core.encode\n"
        "print(sorted({'torch', 'onnx', 'cma'} & set(sys.modules)))"
    )
    assert run_python(code).splitlines() == ["[]", "[]", "['torch']"]


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "name", "extra"), [("nir", "to_nir", "nir"), ("cma", "evolve", "evolve")])
def test_a_missing_optional_package_is_named_with_the_extra_that_installs_it(missing, name, extra):
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"  # makes its import fail as if it were not installed
        f"try: from gee_core import {name}\n"
        "except ImportError as error: print(error)\n"
        "from gee_core import encode, load, measure_energy\n"
    )
    assert run_python(code) == f"gee_core.{name} needs {missing}: install GEE with its extra `{extra}`"
