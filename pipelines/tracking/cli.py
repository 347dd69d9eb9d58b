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
    from pipelines.tracking.folder import all_told, tracking_root
    from pipelines.tracking.publish import Publisher, read_said

    root = tracking_root()
    publisher, said = Publisher(root), read_said(root).hindrances
    rows = [
        {
            "run": told.own.name,
            "outbox": folder.name,
            "has_ended": told.has_ended(),
            "hindrance": publisher.hindrance(told, folder) or said.get(folder.name, ""),
        }
        for folder, told in all_told(root).items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        remedy = "`gee track replay` writes it" if row["has_ended"] else "at work"
        print(f"{row['run']}   {row['outbox']}   {row['hindrance'] or remedy}")
    if not rows:
        print("MLflow has everything")


@track.command("replay")
def replay_command() -> None:
    """Write to MLflow what it has not received yet.

    The exit code is 1 if some could not be written. The next call tries them again.

    gee track replay
    """
    from pipelines.tracking.folder import all_told, tracking_root
    from pipelines.tracking.publish import PATIENCE_OF_REPLAY, Publisher, alone

    with alone(root := tracking_root(), PATIENCE_OF_REPLAY):
        names = {folder.name: told.own.name for folder, told in all_told(root).items()}
        publisher = Publisher(root)
        left = publisher.update()
        publisher.end_abandoned_runs()
    for folder, name in names.items():
        print(f"{name}   {left.get(folder) or 'written'}")
    reasons = f"; {len(left)} are left, for the reasons above" if left else ""
    print(f"{len(names) - len(left)} runs written to {publisher.store}{reasons}")
    if left:
        raise typer.Exit(1)


def ui(port: Annotated[int, typer.Option(help="Port of the server on this machine.")] = 5000) -> None:
    """Serve the runs in MLflow until Ctrl-C, and open the table of their results in the browser.

    gee ui
    """
    from pipelines.runtime.redact import bare
    from pipelines.tracking.experiment_page import EXPERIMENT_ID, RESULTS
    from pipelines.tracking.mlflow_client import connect, find_experiment, is_local, tracking_uri

    uri = tracking_uri()
    experiment = find_experiment(connect(uri), os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gee", uri)
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
