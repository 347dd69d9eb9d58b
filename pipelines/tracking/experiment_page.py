"""What MLflow's pages show of an experiment, its description and views, and the addresses of the pages."""

import json
from collections.abc import Sequence

from pipelines.runtime.redact import bare
from pipelines.tracking.tags import LEVEL, NOTE, PARENT, STAGE, WINNER

MODEL_TRAINING = "workflowType=machine_learning"
"""Ends an address: without it, MLflow would show the page among those for GenAI."""

LOCAL_SERVER = "http://127.0.0.1:5000"
"""Where `mlflow server` shows a store by default."""

VIEW = "mlflow.sharedViewState."  # begins the tag of a view, before its name

EXPERIMENT_ID = "{experiment_id}"  # stands for the id in DESCRIPTION

RUN_ID = "{run_id}"
"""Stands in views for the id of their run, which is not known when they are written."""

RESULTS = f"experiments/{EXPERIMENT_ID}/runs?viewStateShareKey=results&{MODEL_TRAINING}"

DESCRIPTION = f"""\
[Results](#/{RESULTS}): one run per execution of the
pipeline, called by what differs from a preset. Below it is one run per stage, below `evolve`'s one per candidate. The
description of a run links to the candidates of its search. Filters for the search field:

| filter | runs |
|---|---|
| `tags."{LEVEL}" = 'pipeline'` | executions, with parameters, results and the model |
| `tags."{LEVEL}" = 'stage'` | stages, with curves and files; `tags."{STAGE}" = 'train'`: one of them |
| `tags."{LEVEL}" = 'candidate'` | candidates, with their genes; `'rescore'`: draws of those that were scored again |
| `metrics."gene.levels" > 4` | those with such a gene |
| `tags."{WINNER}" = 'true'` | the candidates that won |
| `tags."{PARENT}" = '<id of a run>'` | what lies below a run: the candidates of one `evolve` |
| `tags."{LEVEL}" = 'study'` | studies; `'cell'`: their cells |

`fitness` is at the λ of the candidate's own generation, `final_fitness` at that of the last. Each generation has one seed,
which moves the fitness of all its candidates. Of the best and the start, `fresh_fitness` is the mean over the same fresh
draws. `rank` is the order of `fresh_fitness`, then of `final_fitness`. `winner` marks the candidate that is trained. All come
at the end of a search, but not for candidates that failed.

Accuracies and rates are parts of 1, energies (`_uj`) microjoules per image, counted, not measured, losses and fitness nats per
image, footprints bytes, spikes and operations per image. `image_passes` are the training images seen, repetitions included,
`seconds` the wall time of a candidate's scoring. The step of `accuracy_at_r` is 100·r.
"""


def _view(query: str, order_by: str, ascending: bool, columns: dict[str, int], **state: object) -> str:
    """A view of the list of runs as MLflow's page shares them: a filter, an order and columns with their widths in pixels."""
    widths = ALWAYS | columns
    shown = {"searchFilter": query, "selectedColumns": [name for name in columns if name not in (*ALWAYS, DURATION)]}
    order = {"orderByKey": order_by, "orderByAsc": ascending, "columnOrder": list(widths), "columnWidths": widths}
    return json.dumps(shown | order | state)


RUN_NAME, CREATED, DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"
ALWAYS = {RUN_NAME: 195, CREATED: 90}  # the page always shows them, and DURATION

# Of model training, not of GenAI. The columns fit into a window of 1,280 pixels.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    NOTE: DESCRIPTION,
    f"{VIEW}results": _view(
        f"tags.\"{LEVEL}\" = 'pipeline'",
        "metrics.`test_accuracy`",
        ascending=False,
        columns={RUN_NAME: 115, CREATED: 75, "params.`changed`": 150, "metrics.`test_accuracy`": 103}
        | {"metrics.`plain_test_accuracy`": 140, "metrics.`parameters`": 90, "metrics.`parameter_ratio`": 120}
        | {"metrics.`energy_uj`": 80, "metrics.`base_accuracy`": 110, "metrics.`update_accuracy`": 120}
        | {"metrics.`update_bytes`": 105, DURATION: 80},
    ),
}


def search_views(genes: Sequence[str], priced: bool) -> dict[str, str]:
    """The views of the candidates below evolve's run, whose id RUN_ID stands for, and of the draws that scored them again.

    Columns are rank, the winner's mark, fitness, loss, the ``genes`` and, if candidates are ``priced``, their energy. The view
    has a chart too: parallel coordinates of genes and fitness.
    """
    genes = genes[:30]  # the store takes 5,000 characters of a tag
    new = {"deleted": False, "isGenerated": False}
    section = {"uuid": "search", "name": "Search", "display": True, "isReordered": False, "columns": 1}
    axes = {"selectedParams": [], "selectedMetrics": [*genes, "final_fitness"]}
    chart = {"uuid": "genes", "type": "PARALLEL", "showAllRuns": True} | axes | {"metricSectionId": "search"} | new
    shown = {"compareRunCharts": [chart], "compareRunSections": [section | new]}
    views = {}
    for level in ("candidate", "rescore"):
        names = ["rank", "winner", "fresh_fitness", "final_fitness", "L_ce", *(["energy_uj"] if priced else []), *genes]
        columns = {f"metrics.`{name}`": 70 if name in ("rank", "winner") else 115 for name in names} | {DURATION: 80}
        query = f"tags.\"{LEVEL}\" = '{level}' and tags.\"{PARENT}\" = '{RUN_ID}'"
        views[f"{level}s"] = _view(query, "metrics.`rank`", True, columns, runsHiddenMode="SHOW_ALL", **shown)
    return views


def search_links(experiment_id: str, run_id: str) -> str:
    """Links to the `search_views` of evolve's run ``run_id``, as Markdown."""
    table, charts, again = (
        f"#/experiments/{experiment_id}/runs?{mode}viewStateShareKey={level}s-{run_id}&{MODEL_TRAINING}"
        for level, mode in (("candidate", ""), ("candidate", "compareRunsMode=CHART&"), ("rescore", ""))
    )
    return f"[Candidates]({table}) · [genes and fitness]({charts}) · [scored again]({again})"


def run_address(uri: str, experiment_id: str, run_id: str) -> str:
    """Address of a run's page on the server ``uri``, or on that which shows a file by default."""
    server = bare(uri) if uri.startswith("http") else LOCAL_SERVER
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{MODEL_TRAINING}"
