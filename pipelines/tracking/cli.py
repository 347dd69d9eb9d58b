"""The commands `gee track …`. Heavy imports wait until a command needs them."""

import json
from typing import Annotated

import typer

track = typer.Typer(help="List the runs that MLflow has not received yet, or send them.", no_args_is_help=True)


@track.command("status")
def status_command(as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False) -> None:
    """List the runs that MLflow has not received yet.

    gee track status
    """
    from pipelines.runtime.run_files import read_sent, waiting_folders
    from pipelines.runtime.run_folder import runs_root
    from pipelines.tracking.publish import Publisher

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


@track.command("replay")
def replay_command() -> None:
    """Send the runs that MLflow has not received yet.

    The exit code is 1 if some could not be written. The next call tries them again.

    gee track replay
    """
    from pipelines.runtime.run_files import waiting_folders
    from pipelines.runtime.run_folder import runs_root
    from pipelines.tracking.publish import PATIENCE_OF_REPLAY, Publisher, alone

    with alone(root := runs_root(), PATIENCE_OF_REPLAY):
        names = {folder: record.name for folder, record in waiting_folders(root).items()}
        publisher = Publisher(root)
        left = publisher.update()
    for folder, name in names.items():
        print(f"{name}   {left.get(folder) or 'written'}")
    reasons = f"; {len(left)} are left, for the reasons above" if left else ""
    print(f"{len(names) - len(left)} runs written to {publisher.store}{reasons}")
    if left:
        raise typer.Exit(1)
