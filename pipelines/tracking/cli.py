"""The commands `gee track …`. Heavy imports wait until a command needs them."""

from typing import Annotated

import typer

track = typer.Typer(help="What MLflow has not received yet: list it, write it.", no_args_is_help=True)

Everywhere = Annotated[bool, typer.Option("--everywhere", help="Also those of other machines, where none may be running.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Also those that were tracked for another MLFLOW_TRACKING_URI.")]


@track.command("status")
def status_command(everywhere: Everywhere = False) -> None:
    """List the entries that are still to be written to MLflow."""
    from pipelines.tracking.outbox import outbox_root
    from pipelines.tracking.replay import find_waiting

    found = find_waiting(outbox_root(), everywhere)
    wide, named = (max(map(len, texts), default=0) for texts in ([w.title for w in found], [w.outbox.name for w in found]))
    for waiting in found:
        how = waiting.hindrance or "`gee track replay` writes them"
        print(f"{waiting.title:<{wide}} {len(waiting.entries):>6} entries   {waiting.outbox.name:<{named}}   {how}")
    if not found:
        print("MLflow has everything")


@track.command("replay")
def replay_command(everywhere: Everywhere = False, anyway: Anyway = False) -> None:
    """Write waiting entries to MLflow. Can be run at any time, and repeatedly. Exits with 1 where some could not be written."""
    from gee_core.errors import InputError
    from pipelines.runtime.progress import progress
    from pipelines.tracking.mlflow_client import tracking_uri
    from pipelines.tracking.outbox import outbox_root
    from pipelines.tracking.redact import bare
    from pipelines.tracking.replay import count_ready, find_waiting, replay

    root = outbox_root()
    with progress("replay", count_ready(find_waiting(root, everywhere, anyway))) as advance:
        found = replay(root, everywhere, anyway, advance)
    wide = max((len(waiting.title) for waiting in found), default=0)
    for waiting in found:
        kinds = ", ".join(f"{n} {kind}" for kind, n in waiting.written.items()) or "nothing"
        why = f"; {len(waiting.entries)} left: {waiting.hindrance}" if waiting.entries else ""
        print(f"{waiting.title:<{wide}} {kinds}{why}")
    left = sum(len(waiting.entries) for waiting in found)
    said = f"; {left} are left, for the reasons above" if left else ""
    print(f"{sum(waiting.written.total() for waiting in found)} entries written to {bare(tracking_uri())}{said}")
    if away := [waiting for waiting in found if waiting.is_away]:
        n = sum(len(waiting.entries) for waiting in away)
        raise InputError(f"{away[0].hindrance}; {n} entries still wait", "start it, then run `gee track replay` again")
    if left:
        raise typer.Exit(1)
