"""Measures the load of this machine while a stage works, under the names by which MLflow's page of system metrics knows it."""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable

import psutil

INTERVAL = 10.0
"""Seconds between two measurements."""

QUERY = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw")
"""What `nvidia-smi` is asked for: %, MiB, MiB and W."""


class SystemMetrics:
    """A thread that passes measurements, each with its number, to ``log`` until it is stopped."""

    def __init__(self, log: Callable[[dict[str, float], int], None], interval: float = INTERVAL):
        self._log, self._interval, self._stopped = log, interval, threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; nothing is logged afterwards."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        psutil.cpu_percent()  # the next call measures from here
        step = 0
        while not self._stopped.wait(self._interval):
            self._log(measure(), step)
            step += 1


def measure() -> dict[str, float]:
    """Load of CPUs, memory and NVIDIA GPUs: percent, MB and W; of the CPUs since the last call."""
    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
    }
    return {f"system/{name}": value for name, value in (values | gpu_values(_nvidia_smi())).items()}


def _nvidia_smi() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    return ""


def gpu_values(output: str) -> dict[str, float]:
    """The values of each GPU in the output of `nvidia-smi`; those that a GPU does not report ("[N/A]") are left out."""
    values: dict[str, float] = {}
    for line in output.splitlines():
        index, *cells = (cell.strip() for cell in line.split(","))
        if len(cells) != len(QUERY) - 1:  # a message
            continue
        with contextlib.suppress(ValueError):
            values[f"gpu_{index}_utilization_percentage"] = float(cells[0])
        with contextlib.suppress(ValueError):
            used, total = float(cells[1]), float(cells[2])
            values[f"gpu_{index}_memory_usage_megabytes"] = used * 1.048576
            values[f"gpu_{index}_memory_usage_percentage"] = 100 * used / total
        with contextlib.suppress(ValueError):
            values[f"gpu_{index}_power_usage_watts"] = float(cells[3])
    return values
