"""The commands `gee track …`. Heavy imports wait until a command needs them."""

from typing import Annotated

import typer

track = typer.Typer(help="What MLflow has not received yet: list it, write it.", no_args_is_help=True)

Everywhere = Annotated[bool, typer.Option("--everywhere", help="Also those of other machines, where none may be running.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Also those that were tracked for another MLFLOW_TRACKING_URI.")]


@track.command("status")
def status_command(everywhere: Everywhere = False) -> None:
    """List the entries that are still to be written to MLflow."""
    from pipelines.tracking.drain import Drain
    from pipelines.tracking.outbox import outbox_root

    drain = Drain(outbox_root(), everywhere)
    found = drain.find()
    wide, named = (max(map(len, texts), default=0) for texts in ([w.title for w in found], [w.outbox.name for w in found]))
    for left in found:
        how = left.hindrance or "`gee track replay` writes them"
        n = left.waiting(drain.store)
        print(f"{left.title:<{wide}} {n:>6} entries   {left.outbox.name:<{named}}   {how}")
    if not found:
        print("MLflow has everything")


@track.command("replay")
def replay_command(everywhere: Everywhere = False, anyway: Anyway = False) -> None:
    """Write waiting entries to MLflow. Can be run at any time, and repeatedly. Exits with 1 where some could not be written."""
    from gee_core.errors import InputError
    from pipelines.runtime.progress import progress
    from pipelines.tracking.drain import PATIENT, Drain, alone
    from pipelines.tracking.outbox import outbox_root

    with alone(root := outbox_root()):
        drain = Drain(root, everywhere, anyway)
        n = sum(left.waiting(drain.store) for left in drain.find() if not left.hindrance)
        with progress("replay", n) as advance:
            drain.on_entry = advance
            drain.retry_refused()
            found = drain.run(PATIENT, follows=False)
    wide, left_over = (
        max((len(left.title) for left in found), default=0),
        {id(left): left.waiting(drain.store) for left in found},
    )
    for left in found:
        kinds = ", ".join(f"{n} {kind}" for kind, n in left.written.items()) or "nothing"
        why = f"; {n} left: {left.hindrance}" if (n := left_over[id(left)]) else ""
        print(f"{left.title:<{wide}} {kinds}{why}")
    n = sum(left_over.values())
    said = f"; {n} are left, for the reasons above" if n else ""
    print(f"{sum(left.written.total() for left in found)} entries written to {drain.store}{said}")
    if away := [left for left in found if left.is_away]:
        n = sum(left_over[id(left)] for left in away)
        raise InputError(f"{away[0].hindrance}; {n} entries still wait", "start it, then run `gee track replay` again")
    if n:
        raise typer.Exit(1)
