"""The parameters: one frozen model per section of params.yaml, with a docstring under each field and its range checked.

params.yaml names every setting, so a missing, unknown or mistyped key fails at once. Two kinds of settings have defaults: those
of a search, which ``gee_core.SearchConfig`` has for callers of the library, and those of `evolve.proxy`, which are those of
`train`. This package imports no torch, so that reading params.yaml is quick.
"""

from gee_core.config.evolve import EvolveConfig as EvolveConfig
from gee_core.config.evolve import Proxy as Proxy
from gee_core.config.evolve import SearchConfig as SearchConfig
from gee_core.config.genes import Shape as Shape
from gee_core.config.network import NetworkConfig as NetworkConfig
from gee_core.config.network import NetworkStructure as NetworkStructure
from gee_core.config.params import BaseConfig as BaseConfig
from gee_core.config.params import GeneFormat as GeneFormat
from gee_core.config.params import Params as Params
from gee_core.config.prepare import Events as Events
from gee_core.config.prepare import PrepareConfig as PrepareConfig
from gee_core.config.section import Positive as Positive
from gee_core.config.section import StrictModel as StrictModel
from gee_core.config.train import SHARED as SHARED
from gee_core.config.train import TrainConfig as TrainConfig
