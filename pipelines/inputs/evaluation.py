"""Reads what evaluate measured, for export and report."""

from pathlib import Path

from gee_core.config import StrictModel
from gee_core.errors import InputError
from gee_core.storage.json_object import read_json_model
from pipelines.project.paths import REPORTS

REMEDY = "`dvc repro -f evaluate` makes it, `dvc pull` fetches it"


class Evaluation(StrictModel):
    """The content of reports/evaluate/metrics.json; units as in `pipelines.evaluate`."""

    test_accuracy: float
    test_loss: float
    parameters: int
    plain_parameters: int
    energy_mj: float
    energy_with_decoding_mj: float
    energy_of_sums_mj: float
    spikes_per_image: float
    firing_rate: float
    footprint: int
    footprint_decoded: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float
    dense_synops: float


def read_evaluation(reports: Path = REPORTS) -> Evaluation:
    """What evaluate measured on the test images, from its file under ``reports``.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = reports / "evaluate/metrics.json"
    try:
        return read_json_model(path, Evaluation)
    except FileNotFoundError:
        raise InputError(f"{path}: not found", REMEDY) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error})", REMEDY) from None
