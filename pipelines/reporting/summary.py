"""Summarises a run in some thirty values, for `gee summary`, `dvc metrics diff` and the head of the report."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from gee_core.config import Params
from gee_core.storage.json_object import read_json_model
from pipelines.inputs.measured import MEASURES, Measured

if TYPE_CHECKING:
    pass

RESULT = "gee.result"
"""Tag of a pipeline's run in MLflow: the `result_id` of its summary.json."""


class Summary(BaseModel):
    """The content of reports/summary.json: settings and numbers of a run, without times, so that equal runs have equal files.

    Accuracies, rates and the ratio are fractions, energies are in mJ per image. ``plain_parameters`` are those of the found
    network with plain weights, ``configured_plain_parameters`` those of the plain network that was trained. A value that does
    not exist, such as the fitness of a plain network, is None.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    dataset: str
    network: str
    width: float
    n_genes: int | None
    variant: str
    seed: int
    test_accuracy: float
    test_images: int
    plain_test_accuracy: float | None = None
    plain_energy_mj: float | None = None
    start_test_accuracy: float | None = None
    start_energy_mj: float | None = None
    narrowed_test_accuracy: float | None = None
    narrowed_energy_mj: float | None = None
    narrowed_plain_test_accuracy: float | None = None
    narrowed_plain_energy_mj: float | None = None
    limit_energy_uj: float | None = None
    limit_parameters: float | None = None
    limit_bytes: float | None = None
    limit_steps: float | None = None
    parameters: int
    plain_parameters: int
    configured_plain_parameters: int | None = None
    parameter_ratio: float
    energy_mj: float
    energy_with_decoding_mj: float
    energy_of_sums_mj: float
    spikes_per_image: float
    firing_rate: float
    T: int
    levels: int | None
    noise_accuracy: float
    noise_domain: str
    n_candidates: int
    best_fitness: float | None
    start_fitness: float | None = None
    random_fitness: float | None = None
    fresh_draws: int = 0
    image_passes: int | None = None
    onnx_bytes: int | None
    onnx_agreement: float | None
    genes_format: str | None = None
    genes_bytes: int | None = None
    genes_accuracy: float | None = None
    update_bytes: int | None = None
    update_accuracy: float | None = None
    base_accuracy: float | None = None
    onnx_problem: str | None = None
    nir_bytes: int | None = None
    nir_agreement: float | None = None
    nir_spike_agreement: float | None = None
    machine: str | None = None
    commit: str | None

    def used(self) -> dict[str, tuple[float, float, str]]:
        """By the cost that a budget limits what the network needs of it, the limit, and both in words."""
        energy = f"{self.energy_mj * 1000:.3g} of {self.limit_energy_uj or 0:.3g}\N{NO-BREAK SPACE}µJ"
        costs = {
            "energy": (1000 * self.energy_mj, self.limit_energy_uj, energy),
            "parameters": (self.parameters, self.limit_parameters, ""),
            "bytes": (self.genes_bytes or 0, self.limit_bytes, ""),
            "steps": (self.T, self.limit_steps, ""),
        }
        return {
            name: (value, most, text or f"{value:,.0f} of {most:,.0f} {name}")
            for name, (value, most, text) in costs.items()
            if most is not None
        }

    def values(self) -> dict[str, object]:
        """As the file holds them: a reason why there is no ONNX only where there is one."""
        return {key: value for key, value in self.model_dump().items() if value is not None or key != "onnx_problem"}

    def text(self) -> str:
        """The file."""
        return json.dumps(self.values(), indent=2, allow_nan=False) + "\n"

    def numbers(self) -> dict[str, float]:
        """The results among the values, without settings, and without energies of 0, such as that of no residual sums."""
        values = self.model_dump(exclude={"width", "n_genes", "T", "levels", "seed", "test_images"})
        return {
            key: value for key, value in values.items() if isinstance(value, int | float) and (value or "energy" not in key)
        }


def read_summary(path: Path) -> Summary:
    """The content of a summary.json. Raises ``OSError`` or ``ValueError``."""
    return read_json_model(path, Summary)


def result_id(summary: Summary) -> str:
    """Leads from a report to its run in MLflow, from the bytes of summary.json: a page with the run's own id would vary."""
    return hashlib.sha256(summary.text().encode()).hexdigest()[:12]


def build_summary(params: Params, measured: Measured, test_images: int, commit: str | None) -> Summary:
    """The summary of the measurements of a run, rounded."""
    others = re.compile("^(narrowed_plain|narrowed|plain|start)_")
    shown = {
        name: _rounded(value, getattr(MEASURES.get(others.sub("", name)), "unit", "fraction") == "fraction")
        for part in measured
        for name, value in part
        if name in Summary.model_fields
    }
    evaluate, export = measured.evaluate, measured.export
    plain_parameters = measured.plain.configured_plain_parameters or evaluate.plain_parameters
    return Summary.model_validate(
        {
            **shown,
            "dataset": params.prepare.data_name,
            "network": params.network.name,
            "width": params.network.width,
            "n_genes": params.network.n_genes,
            "T": params.network.T,
            "levels": params.network.levels,
            "variant": params.evolve.variant,
            "seed": params.base.seed,
            "test_images": test_images,
            "parameter_ratio": _rounded(evaluate.parameters / max(plain_parameters, 1)),
            "noise_domain": params.robustness.domain,
            "onnx_agreement": _rounded(export.agreement),
            "genes_format": None if export.genes_bytes is None else params.export.genes,
            "onnx_problem": export.problem,
            "commit": commit,
        }
    )


def _rounded(value: object, decimals: bool = True) -> object:
    """Six decimals, or six significant digits. Whole numbers, texts and None are returned as they are."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if decimals else float(f"{value:.6g}")
