"""The processor that a benchmark ran on."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """Its name, family and model where Linux tells them, such as "AMD EPYC, family 26, model 2"; else its architecture."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines())
    said = {key.strip(): value.strip() for key, _, value in lines}
    numbers = [f"{key.removeprefix('cpu ')} {said[key]}" for key in ("cpu family", "model") if key in said]
    return ", ".join([said.get("model name", platform.machine()), *numbers])
