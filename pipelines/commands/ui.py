"""The command `gee ui`. Heavy imports wait until it runs."""

import contextlib
import os
import socket
import sys
import threading
import time
import urllib.request
import webbrowser
from typing import Annotated

import typer

from gee_core.errors import InputError


def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server on this machine.")] = 5000) -> None:
    """Serve the runs in MLflow until Ctrl-C, and open the table of their results in the browser.

    gee ui
    """
    from pipelines.runtime.process_tree import exit_on_sigterm, run_in_foreground
    from pipelines.runtime.redact import bare
    from pipelines.tracking.experiment_page import EXPERIMENT_ID, RESULTS
    from pipelines.tracking.mlflow_client import is_local, open_store, tracking_uri

    if is_local(tracking_uri()):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise InputError(f"--port {port}: {os.strerror(error.errno or 0).lower()}", "name another --port") from None
    uri, _, experiment = open_store(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gee")
    server = f"http://127.0.0.1:{port}" if is_local(uri) else bare(uri)
    address = f"{server}/#/{RESULTS.replace(EXPERIMENT_ID, experiment)}"
    if not is_local(uri):
        print(f"Results  {address}")
        webbrowser.open(address)
        return
    exit_on_sigterm()
    store = ["--backend-store-uri", uri, "--workers", "1", "--port", str(port), "--uvicorn-opts", "--log-level warning"]
    threading.Thread(target=_open_page, args=(server, address), daemon=True).start()
    raise typer.Exit(run_in_foreground([sys.executable, "-m", "mlflow", "server", *store]))


def _open_page(server: str, address: str) -> None:
    """Open ``address`` in the browser once the server answers."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server}/health", timeout=10):
            print(f"Results  {address}", flush=True)
            webbrowser.open(address)
            return
        time.sleep(0.5)
