import pytest
from ruamel.yaml import YAML

from benchmarks import chaos_project, schedules
from benchmarks.project_copy import ROOT

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
MADE = ("data/prepared", "models/", "reports/", "${")
CODE = {dep for stage in STAGES for dep in stage["deps"] if not dep.startswith(MADE)}


@pytest.mark.parametrize("make_project", [chaos_project.make_project, schedules.make_project])
def test_a_copy_has_everything_that_a_stage_depends_on(make_project, tmp_path):
    make_project(tmp_path)
    assert not [dep for dep in CODE if not (tmp_path / dep).exists()]
