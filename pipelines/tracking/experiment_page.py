"""What MLflow's pages show of an experiment, its description and views, and the addresses of the pages."""

import json
from collections.abc import Sequence

from gee_core.config.evaluation import MEASURES
from gee_core.config.genes import GENES
from pipelines.tracking.redact import bare
from pipelines.tracking.tags import LEVEL, NAME, NOTE, PARENT, STAGE, WINNER

MODEL_TRAINING = "workflowType=machine_learning"
"""Ends an address: without it, MLflow would show the page among those for GenAI."""

LOCAL_SERVER = "http://127.0.0.1:5000"
"""Where `mlflow server` shows a store by default."""

VIEW = "mlflow.sharedViewState."  # begins the tag of a view, before its name

EXPERIMENT_ID = "{experiment_id}"  # stands for the id in DESCRIPTION

UNITS = {
    "fraction": "parts of 1, not percent; also of `noise_accuracy`, `proxy_accuracy` and `accuracy_at_r` (step: 100·r)",
    "nats": "nats per image",
    "mJ": "millijoules per image, counted, not measured",
    "spikes": "spikes per image",
    "numbers": "numbers",
    "bytes": "bytes",
    "operations": "operations per image",
}
UNIT_ROWS = "\n".join(
    f"| {', '.join(f'`{name}`' for name, measure in MEASURES.items() if measure.unit == unit)} | {text} |"
    for unit, text in UNITS.items()
)

DESCRIPTION = f"""\
One run per execution of the pipeline, below it one per stage, below `evolve`'s one per candidate. Views:
[results](#/experiments/{EXPERIMENT_ID}/runs?viewStateShareKey=results&{MODEL_TRAINING}),
[candidates by fitness](#/experiments/{EXPERIMENT_ID}/runs?viewStateShareKey=candidates&{MODEL_TRAINING}).
Filters for the search field:

| filter | runs |
|---|---|
| `tags."{LEVEL}" = 'pipeline'` | executions, with parameters, results and the model |
| `tags."{LEVEL}" = 'stage'` | stages, with curves, files and system metrics; `tags."{STAGE}" = 'train'`: one of them |
| `tags."{LEVEL}" = 'candidate'` | candidates, with their genes; of `metrics.final_fitness`, less is better |
| `metrics."gene.omega_X" > 0.5` | those with such a gene |
| `tags."{WINNER}" = 'true'` | the candidates that won |
| `tags."{PARENT}" = '<id of a run>'` | what lies below a run: the candidates of one `evolve` |
| `tags."{LEVEL}" = 'study'` | studies; `'cell'`: their cells |

`fitness` is at the λ of the candidate's own generation, `final_fitness` at that of the last. Each generation has one seed,
which moves the fitness of all its candidates. Where the best and the start of the search were scored again (`rescored`), the
least `fresh_fitness` wins, the mean over the fresh draws. `rank` is the order in which a search chooses, 1 for the winner;
of several objectives, 1 is the front. Candidates get these at its end, but for those that failed or were eliminated.

| metric | unit |
|---|---|
{UNIT_ROWS}
| `fitness`, `final_fitness`, `fresh_fitness`, `L_ce` | nats per image (the first three less the regularisers) |
| `image_passes`, `seconds` | training images seen, repetitions included; wall time of a candidate's scoring |
| `energy_uj` | microjoules per image, of a candidate |

To see candidates in parallel coordinates, tick them and press *Compare*.
"""


def _view(level: str, order_by: str, ascending: bool, **columns: Sequence[str]) -> str:
    """A view of the list of runs as MLflow's page shares them: a filter, an order and columns."""
    shown = [f"{kind}.`{name}`" for kind, names in columns.items() for name in names]
    order = {"orderByKey": order_by, "orderByAsc": ascending}
    return json.dumps({"searchFilter": f"tags.\"{LEVEL}\" = '{level}'", "selectedColumns": shown} | order)


# Of model training, not of GenAI. The page shows names and times of creation in every view.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    NOTE: DESCRIPTION,
    f"{VIEW}results": _view(
        "pipeline",
        "attributes.start_time",
        ascending=False,
        attributes=("Dataset", "Source", "Models"),
        metrics=("test_accuracy", "noise_accuracy", "parameters", "energy_mj"),
    ),
    f"{VIEW}candidates": _view(
        "candidate",
        "metrics.`rank`",
        ascending=True,
        attributes=("Duration",),
        metrics=(
            *("rank", "final_fitness", "fresh_fitness", "fitness", "proxy_accuracy", "energy_uj", "winner"),
            *(f"gene.{name}" for name in ("sigma_0", *GENES)),
        ),
        params=("generation", "rescored", "dataset", "network", "n_genes", "variant", "seed"),
        tags=(NAME,),
    ),
}


def page_address(place: str, server: str = LOCAL_SERVER) -> str:
    """Address of ``place`` in MLflow's pages."""
    return f"{server}/#/{place}?{MODEL_TRAINING}"


def run_address(uri: str, experiment_id: str, run_id: str) -> str:
    """Address of a run's page on the server ``uri``, or on that which shows a file by default."""
    return page_address(f"experiments/{experiment_id}/runs/{run_id}", bare(uri) if uri.startswith("http") else LOCAL_SERVER)
