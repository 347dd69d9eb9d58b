"""Measures the load of this machine while a stage works, under the names by which MLflow's page of system metrics knows it."""

import contextlib
import itertools
import shutil
import subprocess
import threading
from collections.abc import Callable

import psutil

INTERVAL = 10.0
"""Seconds between two measurements."""

QUERY = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw")
"""What `nvidia-smi` is asked for: %, MiB, MiB and W."""


def sample(log: Callable[[dict[str, float], int], None], interval: float = INTERVAL) -> Callable[[], None]:
    """Pass measurements, each with its number, to ``log`` from a thread, until the function that is returned is called."""
    stopped = threading.Event()

    def run() -> None:
        psutil.cpu_percent()  # the next call measures from here
        for step in itertools.count():
            if stopped.wait(interval):
                return
            log(measure(), step)

    thread = threading.Thread(target=run, name="system-metrics", daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join()

    return stop


def measure() -> dict[str, float]:
    """Load of CPUs, memory and NVIDIA GPUs: percent, MB and W; of the CPUs since the last call."""
    memory, output = psutil.virtual_memory(), ""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            output = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
    }
    return {f"system/{name}": value for name, value in (values | gpu_values(output)).items()}


def gpu_values(output: str) -> dict[str, float]:
    """The values of each GPU in the output of `nvidia-smi`; those that a GPU does not report ("[N/A]") are left out."""
    values: dict[str, float] = {}
    for line in output.splitlines():
        index, *cells = (cell.strip() for cell in line.split(","))
        if len(cells) != len(QUERY) - 1:  # a message
            continue
        found = {name: float(cell) for name, cell in zip(QUERY[1:], cells, strict=True) if cell[:1].isdigit()}
        if "utilization.gpu" in found:
            values[f"gpu_{index}_utilization_percentage"] = found["utilization.gpu"]
        if "memory.used" in found and "memory.total" in found:
            values[f"gpu_{index}_memory_usage_megabytes"] = found["memory.used"] * 1.048576
            values[f"gpu_{index}_memory_usage_percentage"] = 100 * found["memory.used"] / found["memory.total"]
        if "power.draw" in found:
            values[f"gpu_{index}_power_usage_watts"] = found["power.draw"]
    return values
