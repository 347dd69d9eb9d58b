"""The server that Prefect starts for a flow where none is named: in a session of its own.

In the flow's own, a Ctrl-C or a signal to the process group would end it too, and the flow could not report how it ended.
"""

import signal
import subprocess
import threading
from functools import partial
from typing import Any
from unittest.mock import patch

from pipelines.orchestration import environment  # noqa: F401 - before prefect is imported

# isort: split
from prefect.server.api.server import SubprocessASGIServer


class ServerInOwnSession(SubprocessASGIServer):
    """Prefect's server; Prefect takes the first one that is made for all of its clients in this process."""

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        with patch("subprocess.Popen", partial(subprocess.Popen, start_new_session=True)):
            return super()._run_uvicorn_command()


def outlive_signals() -> None:
    """Let the temporary server of this process, if it gets one, end with it and not before.

    A terminal that is closed would no longer end it, so SIGHUP ends this process as SIGTERM does, unless it is ignored (nohup).
    """
    ServerInOwnSession()
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
