"""The commands `gee track …`. Heavy imports wait until a command needs them."""

import typer

track = typer.Typer(help="Send the runs that MLflow has not received yet.", no_args_is_help=True)


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
