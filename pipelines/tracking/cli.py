"""The commands `gee track …` and `gee ui`. Heavy imports wait until a command needs them."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
import webbrowser
from typing import Annotated

import typer

track = typer.Typer(help="What MLflow has not received yet: list it, write it.", no_args_is_help=True)


@track.command("status")
def status_command(as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False) -> None:
    """List the runs that MLflow has not received yet.

    gee track status
    """
    from pipelines.runtime.run_files import read_sent, waiting_folders
    from pipelines.runtime.run_folder import runs_root
    from pipelines.tracking.publish import Publisher, say_what_is_left_of_earlier_versions

    root = runs_root()
    publisher = Publisher(root)
    rows = [
        {
            "run": record.name,
            "outbox": folder.name,
            "has_ended": record.has_ended,
            "hindrance": publisher.hindrance(record, folder) or read_sent(folder).hindrance,
        }
        for folder, record in waiting_folders(root).items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        remedy = "`gee track replay` writes it" if row["has_ended"] else "at work"
        print(f"{row['run']}   {row['outbox']}   {row['hindrance'] or remedy}")
    if not rows:
        print("MLflow has everything")
    say_what_is_left_of_earlier_versions()


@track.command("replay")
def replay_command() -> None:
    """Write to MLflow what it has not received yet.

    The exit code is 1 if some could not be written. The next call tries them again.

    gee track replay
    """
    from pipelines.runtime.run_files import waiting_folders
    from pipelines.runtime.run_folder import runs_root
    from pipelines.tracking.publish import PATIENCE_OF_REPLAY, Publisher, alone, say_what_is_left_of_earlier_versions

    with alone(root := runs_root(), PATIENCE_OF_REPLAY):
        names = {folder: record.name for folder, record in waiting_folders(root).items()}
        publisher = Publisher(root)
        left = publisher.update()
    for folder, name in names.items():
        print(f"{name}   {left.get(folder) or 'written'}")
    reasons = f"; {len(left)} are left, for the reasons above" if left else ""
    print(f"{len(names) - len(left)} runs written to {publisher.store}{reasons}")
    say_what_is_left_of_earlier_versions()
    if left:
        raise typer.Exit(1)


def ui(port: Annotated[int, typer.Option(help="Port of the server on this machine.")] = 5000) -> None:
    """Serve the runs in MLflow until Ctrl-C, and open the table of their results in the browser.

    gee ui
    """
    from pipelines.runtime.redact import bare
    from pipelines.tracking.experiment_page import EXPERIMENT_ID, RESULTS
    from pipelines.tracking.mlflow_client import is_local, open_store

    uri, _, experiment = open_store(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gee")
    server = f"http://127.0.0.1:{port}" if is_local(uri) else bare(uri)
    address = f"{server}/#/{RESULTS.replace(EXPERIMENT_ID, experiment)}"
    if not is_local(uri):
        print(f"Results  {address}")
        webbrowser.open(address)
        return
    store = ["--backend-store-uri", uri, "--workers", "1", "--port", str(port), "--uvicorn-opts", "--log-level warning"]
    with subprocess.Popen([sys.executable, "-m", "mlflow", "server", *store]) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{server}/health", timeout=10):
                print(f"Results  {address}", flush=True)
                webbrowser.open(address)
                break
            time.sleep(0.5)
    raise typer.Exit(process.returncode)
