import subprocess
from types import SimpleNamespace

import pytest

from pipelines.orchestration.experiment import experiment_name


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("eager-fox", 1, "eager-fox-ab12"),
        ("eager-fox", 2, "eager-fox-ab12-2"),
        ("try lower lr", 1, "try-lower-lr-ab12"),
        ("größer/1e-3 ~ [a..b]: @{x}?*^\\ .lock", 3, "größer-1e-3-a-b-x-lock-ab12-3"),
        ("-x", 1, "x-ab12"),
        ("/", 1, "ab12"),
    ],
)
def test_the_name_of_an_experiment_is_that_of_the_flow_run_as_far_as_dvc_takes_it(name, count, expected):
    found = experiment_name(SimpleNamespace(name=name, id="ab12-34", run_count=count))
    assert found == expected
    subprocess.run(["git", "check-ref-format", f"refs/exps/00/0000/{found}"], check=True)
