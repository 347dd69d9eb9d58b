"""The parameters: one frozen model per section of params.yaml, with a docstring under each field and its range checked.

No field has a default: params.yaml is the only place for values, so a missing, unknown or mistyped key fails at once. This
package imports no torch, so that reading params.yaml is quick.
"""

from gee_core.config.evolve import EvolveConfig
from gee_core.config.network import NetworkConfig, NetworkStructure
from gee_core.config.params import BaseConfig, GeneFormat, Params, PrepareConfig
from gee_core.config.section import Positive, Section, StrictModel
from gee_core.config.shape import Shape
from gee_core.config.train import TrainConfig

__all__ = [
    "BaseConfig",
    "EvolveConfig",
    "GeneFormat",
    "NetworkConfig",
    "NetworkStructure",
    "Params",
    "Positive",
    "PrepareConfig",
    "Section",
    "Shape",
    "StrictModel",
    "TrainConfig",
]
