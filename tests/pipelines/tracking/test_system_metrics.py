import threading

import pytest

from pipelines.tracking import system_metrics
from pipelines.tracking.system_metrics import SystemMetrics, gpu_values, measure
from pipelines.tracking.tracker import MlflowTracker
from tests.pipelines.tracking.conftest import KEYS


def test_the_load_is_measured_under_the_names_that_mlflow_groups(monkeypatch):
    monkeypatch.setattr(system_metrics, "_nvidia_smi", lambda: "0, 31, 1024, 81559, 121.50\n")
    values = measure()
    assert set(values) == {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
        "system/gpu_0_utilization_percentage",
        "system/gpu_0_memory_usage_megabytes",
        "system/gpu_0_memory_usage_percentage",
        "system/gpu_0_power_usage_watts",
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
    assert gpu_values("") == {}


def test_measurements_are_numbered_and_end_when_it_is_stopped():
    seen, several = [], threading.Event()

    def log(values, step):
        seen.append(step)
        if len(seen) >= 3:
            several.set()

    metrics = SystemMetrics(log, interval=0.01)
    assert several.wait(600)
    metrics.stop()
    n = len(seen)
    assert seen == list(range(n))
    assert not metrics._thread.is_alive()


def test_the_load_of_a_stage_is_a_curve_of_its_run(client, folder, monkeypatch):
    measured = threading.Event()
    monkeypatch.setattr(system_metrics.SystemMetrics.__init__, "__defaults__", (0.01,))
    tracker = MlflowTracker("train", KEYS)
    monkeypatch.setattr(tracker, "metrics", lambda *values: (MlflowTracker.metrics(tracker, *values), measured.set()))
    tracker.watch()
    assert measured.wait(600)
    tracker.close()
    (run,) = [run for run in client.runs.values() if run.data.tags["gee.level"] == "stage"]
    assert ("system/cpu_utilization_percentage", 0) in {(name, step) for name, step, _, _ in run.points}
