"""A proxy task on a few images, its candidates, and variations of it."""

from dataclasses import replace

from gee_core.config import BaseConfig, NetworkConfig
from gee_core.data.images import PackedImages
from gee_core.data.prepared import load_prepared
from gee_core.evolution.candidate import Candidate
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import Genotype
from tests.gee_core.evolution.made_up import config
from tests.gee_core.test_config import values

BASE = BaseConfig(seed=0, device="cpu", precision="fp32")
NETWORK = NetworkConfig(
    **values()["network"] | {"name": "vgg16", "width": 1 / 16, "n_genes": 6, "neuron": "lif", "levels": None, "T": 3}
)
EVOLVE = config(n_generations=1, population_size=2, sigma=0.2, proxy_epochs=2, weight_decay=0.01, b=0.1)
LAYERS = 8


def candidate(index: int = 0, sigma: float = 0.4) -> Candidate:
    return Candidate(2, index, 100 + index, Genotype(sigma, (sigma,) * LAYERS))


def changed(task: ProxyTask, **evolve) -> ProxyTask:
    """``task`` with other values in the section `evolve`."""
    return replace(task, evolve=task.evolve.model_copy(update=evolve))


def train_images(task: ProxyTask) -> PackedImages:
    """The images that candidates are trained on."""
    return load_prepared(task.prepared).proxy_train(task.evolve.proxy_images)
