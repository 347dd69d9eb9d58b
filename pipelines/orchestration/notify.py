"""Tells people of flow runs that failed or crashed, by the command or webhook in GEE_NOTIFY."""

import http.client
import json
import logging
import shlex
import subprocess
import urllib.error
import urllib.request

from pipelines.runtime.settings import Settings
from pipelines.tracking.redact import redact

log = logging.getLogger(__name__)

SECONDS = 30
"""How long a webhook or command may take."""


def notify(message: str) -> None:
    """Send ``message``, without secrets, as GEE_NOTIFY says; nothing if that is not set. A failure to do so is only logged.

    A webhook gets a POST of ``{"text": message}``, as Slack, Mattermost and Discord (with `/slack`) take it; a command gets the
    message as its last argument.
    """
    target = Settings.read().notify
    if not target:
        return
    message = redact(message)
    try:
        if target.startswith(("http://", "https://")):
            body, kind = json.dumps({"text": message}).encode(), {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(target, body, kind), timeout=SECONDS).close()
        else:
            subprocess.run([*shlex.split(target), message], check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    except urllib.error.HTTPError as error:
        log.warning("GEE_NOTIFY: the webhook answered %d", error.code)  # its address is a secret
    except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
        log.warning("GEE_NOTIFY: no notification was sent (%s)", type(error).__name__)
