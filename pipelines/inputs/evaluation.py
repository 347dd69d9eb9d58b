"""Reads what evaluate measured, for export."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gee_core.errors import InputError
from gee_core.storage.json_object import read_json_model
from pipelines.project.paths import REPORTS

EVALUATION = REPORTS / "evaluate/metrics.json"
REMEDY = "`dvc repro -f evaluate` makes it, `dvc pull` fetches it"


class Evaluation(BaseModel):
    """The content of reports/evaluate/metrics.json; units as in `pipelines.evaluate`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

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


def read_evaluation(path: Path = EVALUATION) -> Evaluation:
    """What evaluate measured on the test images.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return read_json_model(path, Evaluation)
    except FileNotFoundError:
        raise InputError(f"{path}: not found", REMEDY) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error})", REMEDY) from None
