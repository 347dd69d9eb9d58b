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
    from pipelines.tracking.folder import all_told, tracking_root, waiting
    from pipelines.tracking.publish import Publisher, why_not

    publisher = Publisher(tracking_root())
    rows = [
        {
            "run": told.own.name,
            "entries": waiting(folder),
            "outbox": folder.name,
            "hindrance": publisher.hindrance(told, folder) or why_not(folder),
        }
        for folder, told in all_told(tracking_root()).items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    wide, named = (max((len(str(row[key])) for row in rows), default=0) for key in ("run", "outbox"))
    for row in rows:
        how = row["hindrance"] or "`gee track replay` writes them"
        print(f"{row['run']:<{wide}} {row['entries']:>6} files   {row['outbox']:<{named}}   {how}")
    if not rows:
        print("MLflow has everything")


@track.command("replay")
def replay_command() -> None:
    """Write to MLflow what it has not received yet.

    The exit code is 1 if some could not be written. The next call tries them again.

    gee track replay
    """
    from pipelines.runtime.progress import progress
    from pipelines.tracking.folder import all_told, tracking_root, waiting
    from pipelines.tracking.publish import PATIENCE_OF_REPLAY, Publisher, alone

    with alone(root := tracking_root(), PATIENCE_OF_REPLAY):
        before = {folder: (told.own.name, waiting(folder)) for folder, told in all_told(root).items()}
        with progress("replay", sum(n for _, n in before.values())) as steps:
            publisher = Publisher(root, steps)
            hindrances = publisher.update()
        publisher.end_abandoned_runs()
    wide = max((len(name) for name, _ in before.values()), default=0)
    after = {folder: waiting(folder) for folder in before}
    for folder, (name, n) in before.items():
        left = f"; {after[folder]} left: {hindrances.get(folder)}" if after[folder] else ""
        print(f"{name:<{wide}} {max(0, n - after[folder])} files{left}")
    n_left = sum(after.values())
    n = sum(n for _, n in before.values()) - n_left
    print(f"{n} files written to {publisher.store}" + (f"; {n_left} are left, for the reasons above" if n_left else ""))
    if n_left:
        raise typer.Exit(1)
