import threading

import pytest

from pipelines.tracking import system_metrics
from pipelines.tracking.system_metrics import gpu_values, measure
from pipelines.tracking.tracker import MlflowTracker
from tests.pipelines.tracking.conftest import KEYS, by_level


def test_the_load_is_measured_under_the_names_that_mlflow_groups(monkeypatch):
    monkeypatch.setattr(system_metrics.shutil, "which", lambda _: None)
    values = measure()
    assert set(values) == {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
    }
    assert values["system/system_memory_usage_megabytes"] > 1
    assert 0 < values["system/system_memory_usage_percentage"] <= 100


def test_each_gpu_has_its_values_and_what_one_does_not_report_is_left_out():
    output = "0, 100, 500, 1000, 250.5\n1, [N/A], 250, 1000, [N/A]\nno devices were found\n"
    assert gpu_values(output) == pytest.approx(
        {
            "gpu_0_utilization_percentage": 100,
            "gpu_0_memory_usage_megabytes": 524.288,
            "gpu_0_memory_usage_percentage": 50,
            "gpu_0_power_usage_watts": 250.5,
            "gpu_1_memory_usage_megabytes": 262.144,
            "gpu_1_memory_usage_percentage": 25,
        }
    )


def test_the_load_of_a_stage_is_a_numbered_curve_of_its_run_that_ends_with_it(client, folder, monkeypatch):
    several, seen = threading.Event(), []
    monkeypatch.setattr(system_metrics.sample, "__defaults__", (0.01,))
    tracker = MlflowTracker("train", KEYS)

    def log(values, step):
        MlflowTracker.metrics(tracker, values, step)
        seen.append(step)
        if len(seen) >= 3:
            several.set()

    monkeypatch.setattr(tracker, "metrics", log)
    tracker.watch()
    assert several.wait(600)
    tracker.close()
    n = len(seen)
    (run,) = by_level(client, "stage")
    assert [step for name, step, *_ in sorted(run.points) if name == "system/cpu_utilization_percentage"] == list(range(n))
