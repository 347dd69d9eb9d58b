"""The commands `gee track …`. Heavy imports wait until a command needs them."""

import json
from typing import Annotated

import typer

track = typer.Typer(help="What MLflow has not received yet: list it, write it.", no_args_is_help=True)


@track.command("status")
def status_command(as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False) -> None:
    """List what MLflow has not received yet.

    gee track status
    """
    from pipelines.tracking.drain import Drain
    from pipelines.tracking.outbox import outbox_root

    found = Drain(outbox_root()).find()
    if as_json:
        rows = [
            {"run": w.title, "entries": w.outbox.waiting(), "outbox": w.outbox.name, "hindrance": w.hindrance} for w in found
        ]
        print(json.dumps(rows))
        return
    wide, named = (max(map(len, texts), default=0) for texts in ([w.title for w in found], [w.outbox.name for w in found]))
    for left in found:
        how = left.hindrance or "`gee track replay` writes them"
        print(f"{left.title:<{wide}} {left.outbox.waiting():>6} entries   {left.outbox.name:<{named}}   {how}")
    if not found:
        print("MLflow has everything")


@track.command("replay")
def replay_command() -> None:
    """Write to MLflow what it has not received yet.

    The exit code is 1 if some could not be written. The next call tries them again.

    gee track replay
    """
    from pipelines.runtime.progress import progress
    from pipelines.tracking.drain import Drain, alone
    from pipelines.tracking.outbox import outbox_root

    with alone(root := outbox_root()):
        drain = Drain(root)
        n = sum(left.outbox.waiting() for left in drain.find() if not left.hindrance)
        with progress("replay", n) as drain.on_entry:
            found = drain.run(follows=False)
    wide = max((len(left.title) for left in found), default=0)
    n_left = 0
    for left in found:
        kinds = ", ".join(f"{n} {kind}" for kind, n in left.written.items()) or "nothing"
        n = left.outbox.waiting()
        print(f"{left.title:<{wide}} {kinds}" + (f"; {n} left: {left.hindrance}" if n else ""))
        n_left += n
    said = f"; {n_left} are left, for the reasons above" if n_left else ""
    print(f"{sum(left.written.total() for left in found)} entries written to {drain.store}{said}")
    if n_left:
        raise typer.Exit(1)
