"""Every benchmark can be started; those that take seconds at their smallest size run to the end."""

import importlib
import json
import sys

import pytest
from ruamel.yaml import YAML

from benchmarks import chaos_project
from tests.project_copy import ROOT

MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
MADE = ("data/prepared", "models/", "reports/", "${")
SMALLEST = {"energy_counts": "--images 20", "paper_sizes": ""}


def test_the_imports_of_every_benchmark_are_there():
    assert all(importlib.import_module(f"benchmarks.{name}").__doc__ or name == "__init__" for name in MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_to_the_end(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--json", *SMALLEST[name].split()])
    importlib.import_module(f"benchmarks.{name}").main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_copy_has_everything_that_a_stage_depends_on(tmp_path):
    chaos_project.make_project(tmp_path)
    code = {dep for stage in STAGES for dep in stage["deps"] if not dep.startswith(MADE)}
    assert not [dep for dep in code if not (tmp_path / dep).exists()]
