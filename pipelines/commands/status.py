"""The command `gee status`. Heavy imports wait until it runs."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN = 3
"""How many changes of a stage are named."""


def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show what is stale, what is running and what waits for MLflow.

    gee status
    gee status --json
    """
    import psutil
    from dvc.lock import LockError
    from dvc.repo import Repo

    from pipelines.commands.gc import at_work
    from pipelines.orchestration.flow_lock import check_dvc_lock
    from pipelines.runtime.run_files import waiting_folders
    from pipelines.runtime.run_folder import runs_root

    check_dvc_lock(Path())
    stale = None  # DVC holds its lock while it compares files itself
    with contextlib.suppress(LockError), Repo() as repo:
        stale = {name: _changes(entries) for name, entries in repo.status().items()}
    running = at_work(psutil.process_iter(), Path())
    n_waiting = sum(record.has_ended for record in waiting_folders(runs_root()).values())
    if as_json:
        print(json.dumps({"stale": stale, "running": running, "waiting_for_mlflow": n_waiting}))
        return
    if stale is None:
        print("stale    not known while DVC compares the files itself: ask again")
    for name, changes in (stale or {}).items():
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        print(f"stale    {name}: {', '.join(changes[:SHOWN])}{more}")
    print("\n".join(f"running  {line}" for line in running) or "running  nothing")
    print("MLflow   has everything" if not n_waiting else f"MLflow   {n_waiting} runs wait: `gee track status` says why")
    if stale is not None:
        print("Next     `gee run` runs what is stale" if stale else "All stages are up to date")


def _changes(entries: list[Any]) -> list[str]:
    """The changes of a stage in two words each, such as `modified gee_core/model`."""
    groups = [group for entry in entries if isinstance(entry, dict) for group in entry.values() if isinstance(group, dict)]
    changes = [f"{how if isinstance(how, str) else 'changed'} {path}" for group in groups for path, how in group.items()]
    return changes or [str(entry) for entry in entries]
