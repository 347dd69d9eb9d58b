"""How the pipeline uses this machine: environment variables, and its cores. Results do not depend on them, but for rounding."""

import os
from typing import Literal, Self

from gee_core.errors import InputError, did_you_mean
from gee_core.settings import PREFIX, SAVE_SECONDS, CoreSettings, Count


class Settings(CoreSettings):
    """All variables of this project, read where they are used: ``Settings.read().workers``."""

    engine: Literal["serial", "processes", "dask"] = "processes"
    """Where candidates and cells run: `serial`, `processes` or `dask` ([Cluster](CLUSTER.md)). Default: `processes`."""

    dask: str | None = None
    """Address or file of the dask scheduler."""

    workers: Count | None = None
    """Candidates scored at the same time. Default: one per CPU core or GPU."""

    threads: Count = 1
    """Threads of torch per candidate. Default: 1."""

    save_seconds: Count = int(SAVE_SECONDS)
    """Seconds between two saved states within an epoch. Default: 240."""

    tracking: Literal["on", "off"] = "on"
    """`off`: nothing is tracked in MLflow. Default: `on`."""

    progress: Literal["on", "off"] = "on"
    """`off`, as `gee -q`: no progress is printed. Default: `on`."""

    @classmethod
    def read(cls) -> Self:
        """As of `CoreSettings`. A variable that is near to a known variable is taken for a typing error of it."""
        known = [name.upper() for name in cls.model_fields]
        for name in (name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)):
            if name not in known and (meant := did_you_mean(name, known, PREFIX)):
                raise InputError(f"{PREFIX}{name}: no variable of this project", meant)
        return super().read()


def cpu_cores() -> int:
    """CPU cores that this process may use; all of the machine where the system cannot say (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
