"""The numbers that evaluate measures: the one list from which tables and tests derive."""

from dataclasses import dataclass
from typing import Annotated, Literal

from gee_core.config.section import StrictModel


@dataclass(frozen=True)
class Measure:
    """What a number is."""

    label: str
    unit: Literal["fraction", "nats", "mJ", "spikes", "numbers", "bytes", "operations"]


class Evaluation(StrictModel):
    """The content of reports/evaluate/metrics.json. Energies, spikes and operations are per image."""

    test_accuracy: Annotated[float, Measure("test accuracy", "fraction")]
    test_loss: Annotated[float, Measure("test loss", "nats")]
    parameters: Annotated[int, Measure("parameters", "numbers")]
    plain_parameters: Annotated[int, Measure("parameters of the plain network", "numbers")]
    energy_mj: Annotated[float, Measure("energy", "mJ")]
    energy_with_decoding_mj: Annotated[float, Measure("energy with building W", "mJ")]
    energy_of_sums_mj: Annotated[float, Measure("energy of residual sums", "mJ")]
    spikes_per_image: Annotated[float, Measure("spikes per image", "spikes")]
    firing_rate: Annotated[float, Measure("firing rate", "fraction")]
    footprint: Annotated[int, Measure("footprint with genes", "bytes")]
    footprint_decoded: Annotated[int, Measure("footprint with W built", "bytes")]
    connection_sparsity: Annotated[float, Measure("connection sparsity", "fraction")]
    activation_sparsity: Annotated[float, Measure("activation sparsity", "fraction")]
    effective_macs: Annotated[float, Measure("effective MACs", "operations")]
    effective_acs: Annotated[float, Measure("effective ACs", "operations")]
    dense_synops: Annotated[float, Measure("dense synaptic operations", "operations")]


MEASURES: dict[str, Measure] = {
    name: next(about for about in field.metadata if isinstance(about, Measure))
    for name, field in Evaluation.model_fields.items()
}
"""By name, in the order of the file."""
