"""The commands `gee run` and `gee summary`. Heavy imports wait until they run."""

import json
import os
import shutil
import subprocess
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
    data: Annotated[str | None, typer.Option(help="Folder with the images. Sets prepare.path of the experiment.")] = None,
    stages: Stages = None,
    force: Force = False,
    name: Annotated[str | None, typer.Option(help="Name of the experiment (default: run- and the time).")] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="After a failure, run all independent stages.")] = False,
    quiet: Annotated[bool, typer.Option("-q", help="Show no progress, as `gee -q run` does.")] = False,
) -> None:
    """Run the stages that changed (`dvc repro` on params.yaml), and print the results.

    With --set or --preset, DVC runs an experiment in a copy. Your params.yaml and results stay as they are.
    The command waits for the end of any other run in this project.

    gee run
    gee run --stage evolve
    gee run --set network.n_genes=16 --set train.epochs=10
    gee run --preset nmnist --data /path/to/nmnist
    """
    from pipelines.orchestration.flow_lock import flow_lock, whole_dvc_lock
    from pipelines.orchestration.request import Request, check_request, last_summary
    from pipelines.project.git import check_for_dvc
    from pipelines.reporting.verdict import format_summary, track_result
    from pipelines.runtime.process_tree import exit_on_sigterm, run_in_foreground
    from pipelines.tracking.tracker import tracked_execution

    of_data = {} if data is None else {"prepare.path": in_project(data, context.obj)}
    request = Request(parse_changes(changes or []) | of_data, stages or [], force, preset)
    name = name or f"run-{datetime.now():%Y%m%d-%H%M%S}"
    verbose = ["--verbose"] if context.parent and context.parent.params["verbose"] else []
    if quiet:
        os.environ["GEE_PROGRESS"] = "off"
    exit_on_sigterm()
    params, set_params = check_request(request)
    with flow_lock() as has_waited:
        if has_waited:  # and params.yaml may have changed
            params, set_params = check_request(request)
        before = last_summary() if PAGE.is_file() else None  # else it came with the clone
        tracking = tracked_execution(params, not stages, with_versions=not request.is_experiment)
        with tracking as tracked, whole_dvc_lock():
            check_for_dvc(Path())
            if code := run_in_foreground([*request.command(name, set_params, keep_going), *verbose]):
                raise typer.Exit(code)  # in here, so that the run in MLflow fails too
            found = last_summary(name if request.is_experiment else None)
            reported = found if not stages or "report" in stages else None  # else it is that of an earlier run
            if reported and (reported != before or tracked.goes_on):  # also where all stages came from the cache
                track_result(reported, tracked.open().run)
    if reported:
        console.print("", format_summary(reported), sep="\n")
    if request.is_experiment:
        _print_experiment(name, reported, before)
    elif reported:
        if before and before.machine and before.machine != reported.machine:
            print(f"\nNumbers may differ from the last ones, made on {before.machine}: this is {reported.machine}")
        _print_next(tracked.execution)


def _print_experiment(name: str, reported: "Summary | None", last: "Summary | None") -> None:
    """Print the results of a DVC experiment that ``reported`` some next to those of the last run here, and what to do next."""
    from pipelines.orchestration.request import COMPARE

    if reported and last and last.dataset != reported.dataset:
        print(f"\nNot compared with the last run here: that was on {last.dataset}, this is on {reported.dataset}")
    elif reported and last:
        print(flush=True)
        subprocess.run([sys.executable, "-m", "dvc", "metrics", "diff", "--no-path", "--precision", "6", "workspace", name])
    print(f"\nResults  {COMPARE}\nNext     dvc exp apply {name}")


def _print_next(execution: "Execution | None") -> None:
    """Print where to look after a run, and what to do next."""
    from pipelines.tracking.mlflow_client import is_local, tracking_uri

    if not shutil.which("gee", path=os.environ["PATH"].partition(os.pathsep)[2]):  # of the shell, after this Python's folder
        print(f"\nFirst    source {sys.prefix}/bin/activate")
    print(f"\nReport   {PAGE.resolve().as_uri()}")
    for line in execution.models if execution else ():
        print(f"Model    {line}")
    address = execution.address if execution else None
    if address and not is_local(tracking_uri()):
        print(f"Runs     {address}")
    else:
        print("Runs     gee ui")
        if address:
            print(f"         then {address}")
    print("Next     gee run --set base.seed=1\n         gee preset use cifar10-small\n         gee --help")


def summary(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Print the summary of the last run.

    gee summary --json
    """
    from pipelines.reporting.summary import read_summary
    from pipelines.reporting.verdict import format_summary
    from pipelines.runtime.input_errors import reading

    with reading(SUMMARY, "run `gee run`, or `dvc pull`"):
        last = read_summary(SUMMARY)
    if as_json:
        print(json.dumps(last.model_dump()))
    else:
        console.print(format_summary(last))
