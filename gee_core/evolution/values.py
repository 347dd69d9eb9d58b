"""What is told of a record: its candidate's parameters, its measurements, and the distribution that it was drawn from."""

import math
from collections.abc import Sequence

from gee_core.evolution.candidate import Record


def candidate_params(record: Record) -> dict:
    """What identifies a candidate, and its status."""
    c = record.candidate
    values = {"generation": c.generation, "index": c.index, "rescored": c.rescored, "seed": c.seed}
    return values | {"status": record.score.status}


def candidate_metrics(record: Record) -> dict[str, float]:
    """The measurements of a candidate."""
    s = record.score
    return {
        "fitness": record.fitness,
        "L_ce": s.L_ce,
        "TSE": s.TSE,
        "R_T": s.R_T,
        "var_o": s.var_o,
        "R_S": s.R_S,
        "lambda": record.decay,
        "proxy_accuracy": s.proxy_accuracy,
        "epochs": record.epochs,
        "image_passes": s.image_passes,
    }


def search_state(record: Record, genes: Sequence[str]) -> dict[str, float]:
    """CMA-ES's distribution at the record's generation, by column; NaN if CMA-ES did not draw it."""
    names = ["step_size", "axis_ratio", *(f"mean_{gene}" for gene in genes), *(f"std_{gene}" for gene in genes)]
    if (s := record.state) is None:
        return dict.fromkeys(names, math.nan)
    return dict(zip(names, [s.step_size, s.axis_ratio, *s.means, *s.stds], strict=True))
