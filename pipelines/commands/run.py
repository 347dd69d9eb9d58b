"""The commands `gee run` and `gee summary`. Heavy imports wait until they run."""

import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipelines.orchestration.cli import Changes, Force, FromPreset, Stages
from pipelines.project.paths import PAGE, SUMMARY, in_project
from pipelines.project.safe_yaml import parse_changes

if TYPE_CHECKING:
    from pipelines.reporting.summary import Summary
    from pipelines.tracking.tracker import Execution

console = Console(markup=False)


def run(
    context: typer.Context,
    changes: Changes = None,
    preset: FromPreset = None,
    data: Annotated[str | None, typer.Option(help="Folder with the images of the --preset; sets prepare.path.")] = None,
    stages: Stages = None,
    force: Force = False,
) -> None:
    """Run the stages that changed (`dvc repro` on params.yaml), and print the results.

    With --set or --preset it runs as a DVC experiment in a copy: params.yaml and the results stay as they are.
    It waits for the end of any other run in this project.

    gee run
    gee run --stage evolve
    gee run --set network.n_genes=16 --set train.epochs=10
    gee run --preset nmnist --data /path/to/nmnist
    """
    from gee_core.errors import InputError
    from pipelines.commands.preset import load
    from pipelines.orchestration.ending import print_experiment
    from pipelines.orchestration.flow_lock import flow_lock, say
    from pipelines.orchestration.request import Request, checked, last_summary
    from pipelines.project.git import check_for_dvc
    from pipelines.reporting.summary import format_summary, track_result
    from pipelines.runtime.process_tree import exit_on_sigterm, run_in_foreground
    from pipelines.tracking.publish import say_what_is_left_of_earlier_versions
    from pipelines.tracking.tracker import tracked_execution

    overrides = parse_changes(changes or [])
    if data is not None:
        if preset is None:
            raise InputError(f"--data {data}: there is no --preset", f"write --set prepare.path={data}")
        overrides["prepare.path"] = load(preset, in_project(data, context.obj)).params.prepare.path
    request = Request(overrides, stages or [], force, preset)
    params, set_params = checked(request, Path(), "--set")
    name = f"run-{datetime.now():%Y%m%d-%H%M%S}"
    verbose = ["--verbose"] if context.parent and context.parent.params["verbose"] else []
    exit_on_sigterm()
    say_what_is_left_of_earlier_versions()
    of_project = not request.is_experiment
    with flow_lock(Path(), say), tracked_execution(params, not stages, with_versions=of_project) as tracked:
        check_for_dvc(Path())
        before = last_summary() if PAGE.is_file() else None  # else it came with the clone
        if code := run_in_foreground([*request.command(name, set_params), *verbose]):
            raise typer.Exit(code)  # in here, so that the run in MLflow fails too
        reported = not stages or "report" in stages  # else the summary is that of an earlier run
        found = last_summary(name if request.is_experiment else None)
        if found and reported and (found != before or tracked.goes_on):  # also where all stages came from the cache
            track_result(found, tracked.open().run)
    if request.is_experiment:
        if reported and found:
            console.print(format_summary(found))
        print_experiment(name, reported)
    elif reported:
        _print_results(before, found, tracked.execution)


def _print_results(before: "Summary | None", now: "Summary | None", execution: "Execution | None") -> None:
    from pipelines.orchestration.ending import print_runs
    from pipelines.tracking.mlflow_client import is_local, tracking_uri

    summary()
    if before and now and before.machine and before.machine != now.machine:
        print(f"\nNumbers may differ from the last ones, made on {before.machine}: this is {now.machine}")
    if not shutil.which("gee", path=os.environ["PATH"].partition(os.pathsep)[2]):  # of the shell, after this Python's folder
        print(f"\nFirst    source {sys.prefix}/bin/activate")
    print(f"\nReport   {PAGE.resolve().as_uri()}")
    for line in execution.models if execution else ():
        print(f"Model    {line}")
    address = execution.address if execution else None
    if address and not is_local(tracking_uri()):
        print(f"Runs     {address}")
    else:
        print_runs(address)
    print("Next     gee run --set evolve.n_generations=5\n         gee preset use cifar10-small\n         gee --help")


def summary(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Print the summary of the last run.

    gee summary --json
    """
    from pipelines.reporting.summary import format_summary, read_summary
    from pipelines.runtime.input_errors import reading

    with reading(SUMMARY, "run `gee run`, or `dvc pull`"):
        last = read_summary(SUMMARY)
    if as_json:
        print(json.dumps(last.model_dump()))
    else:
        console.print(format_summary(last))
