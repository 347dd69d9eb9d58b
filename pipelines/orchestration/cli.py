"""The commands `gee flow …`. Prefect is imported inside the commands, so that `gee --help` is quick."""

import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipelines.project.safe_yaml import parse_changes

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

flow = typer.Typer(help="Run the pipeline and studies in Prefect, now or on a schedule.", no_args_is_help=True)

Changes = Annotated[list[str] | None, typer.Option("--set", help="Set section.key=value in a DVC experiment. Repeatable.")]
FromPreset = Annotated[str | None, typer.Option(help="Run this preset as a DVC experiment.")]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="Run only this stage and those that it needs. Repeatable.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Run unchanged stages too.")]


@flow.command("run")
def run_command(changes: Changes = None, preset: FromPreset = None, stages: Stages = None, force: Force = False) -> None:
    """Run the pipeline now, with one Prefect task per stage. The results are those of `gee run`.

    With --set or --preset, DVC runs an experiment in a copy. Your params.yaml and results stay as they are.
    The command waits for the end of any other run in this project.

    gee flow run
    gee flow run --preset cifar10-small --set train.epochs=10
    """
    from pipelines.orchestration.request import Request, check_request

    request = Request(parse_changes(changes or []), stages or [], force, preset)
    check_request(request)  # before Prefect starts
    from pipelines.orchestration.flow import pipeline_flow
    from pipelines.orchestration.server import connect
    from pipelines.runtime.process_tree import exit_on_sigterm

    exit_on_sigterm()
    connect()
    state = cast("State[tuple[dict[str, str], str]]", pipeline_flow(**request._asdict(), return_state=True))
    if state.is_cancelled():  # by Ctrl-C
        raise KeyboardInterrupt
    if not state.is_completed():
        print(f"gee: error: {state.result(raise_on_failure=False) or state.message}", file=sys.stderr)
        raise typer.Exit(1)
    outcomes, address = state.result()
    for stage, outcome in outcomes.items():
        print(f"{stage:{max(map(len, outcomes))}}  {outcome}")
    if address.startswith("http"):
        print(f"Flow     {address}")
    else:
        print(f"Flow     prefect server start\n         then http://127.0.0.1:4200{address}")


@flow.command("serve")
def serve_command(
    cron: Annotated[str | None, typer.Option(help='Schedule of the pipeline, such as "0 2 * * *" (default: none).')] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of the schedules, e.g. Europe/Berlin.")] = "UTC",
    studies: Annotated[list[str] | None, typer.Option("--study", help="Run this study too. Repeatable.")] = None,
    study_cron: Annotated[str, typer.Option(help="Schedule of the studies.")] = "0 4 * * 0",
) -> None:
    """Run the pipeline and studies on a schedule, or when Prefect asks for a run, until you stop the command.

    It needs a Prefect server, whose address is in PREFECT_API_URL.
    A run that starts during another run in this project waits for its end.

    gee flow serve
    gee flow serve --cron "0 2 * * *" --timezone Europe/Berlin --study ablation
    """
    from pipelines.orchestration.server import serve_flows

    serve_flows(cron, timezone, studies or [], study_cron)
