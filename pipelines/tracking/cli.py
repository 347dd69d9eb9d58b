"""The commands `gee track …`. Heavy imports wait until a command needs them."""

import json
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
