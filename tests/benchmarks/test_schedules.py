import argparse

import pytest

from benchmarks import schedules


def test_a_first_run_that_does_not_complete_ends_the_benchmark_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(schedules, "one_run", lambda environment: ({"type": "FAILED", "message": "no network there"}, 1.0))
    with pytest.raises(SystemExit, match="the first run ended as FAILED: no network there"):
        schedules.all_runs(tmp_path, {}, None, None, argparse.Namespace(runs=1, change_every=0, minutes=1))
