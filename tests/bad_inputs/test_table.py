"""The table as a whole, and a few of its rows run as DVC and people run them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.bad_inputs import (
    test_command_cases,
    test_energy_cases,
    test_environment_cases,
    test_image_cases,
    test_model_cases,
    test_own_network_cases,
    test_params_cases,
    test_prepared_cases,
)
from tests.bad_inputs.case import param
from tests.bad_inputs.conftest import hashes

ROOT = Path(__file__).resolve().parents[2]
AREAS = (
    test_params_cases,
    test_image_cases,
    test_prepared_cases,
    test_model_cases,
    test_own_network_cases,
    test_environment_cases,
    test_command_cases,
    test_energy_cases,
)
CASES = [case for area in AREAS for case in area.CASES]


def test_the_table_is_long_and_no_row_stands_twice():
    assert len(CASES) >= 200
    assert max(Counter(map(str, CASES)).values()) == 1


def test_every_row_says_what_where_and_what_to_do():
    assert not [str(case) for case in CASES if not (case.says and case.remedy)]


@pytest.mark.parametrize("command", [["pipelines.train"], ["pipelines.cli", "run"]], ids=" ".join)
def test_what_is_run_as_people_run_it_ends_with_one_message_and_exit_code_2(command, project):
    param("base.seed", "-1")(project)
    before = hashes(project)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *command], cwd=project, env=env, capture_output=True, text=True, timeout=600)
    name = "gee" if "pipelines.cli" in command else "train"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{name}: error: params.yaml: base.seed = -1: input should be greater than or equal to 0\n"
    assert hashes(project) == before
