"""The parameters: one frozen model per section of params.yaml, with a docstring under each field and its range checked.

No field has a default: params.yaml is the only place for values, so a missing, unknown or mistyped key fails at once. This
package imports no torch, so that reading params.yaml is quick.
"""

from gee_core.config.evolve import VARIANTS, EvolveConfig, Rescore, Variant
from gee_core.config.formats import GeneFormat, Quantise
from gee_core.config.hardware import Hardware
from gee_core.config.network import SURROGATES, NetworkConfig, NetworkStructure
from gee_core.config.params import (
    DATASETS,
    BaseConfig,
    Dataset,
    EvaluateConfig,
    ExportConfig,
    Params,
    PrepareConfig,
    ReportConfig,
    RobustnessConfig,
)
from gee_core.config.section import Positive, Section
from gee_core.config.shape import Shape
from gee_core.config.train import TrainConfig

__all__ = [
    "DATASETS",
    "SURROGATES",
    "VARIANTS",
    "BaseConfig",
    "Dataset",
    "EvaluateConfig",
    "EvolveConfig",
    "ExportConfig",
    "GeneFormat",
    "Hardware",
    "NetworkConfig",
    "NetworkStructure",
    "Params",
    "Positive",
    "PrepareConfig",
    "Quantise",
    "ReportConfig",
    "Rescore",
    "RobustnessConfig",
    "Section",
    "Shape",
    "TrainConfig",
    "Variant",
]
