"""A proxy task on a few images, its candidates, and variations of it."""

from dataclasses import replace

from gee_core.config import BaseConfig, EvolveConfig, NetworkConfig, Proxy
from gee_core.data.images import PackedImages
from gee_core.data.prepared import load_prepared
from gee_core.evolution.candidate import Candidate, ProxyTask
from gee_core.genome.genotype import Genotype
from tests.gee_core.evolution.made_up import config
from tests.gee_core.test_config import values

BASE = BaseConfig(seed=0, device="cpu", precision="fp32")
NETWORK = NetworkConfig(
    **values()["network"] | {"name": "vgg16", "width": 1 / 16, "n_genes": 6, "neuron": "lif", "levels": None, "T": 3}
)
PROXY = Proxy(
    **dict.fromkeys(("lr_X", "lr_O"), 1.0),
    **dict.fromkeys(("sizes", "T_schedule"), None),
    batch_size=8,
    lr=0.01,
    weight_decay=0.01,
    optimizer="adamw",
    momentum=0.95,
    whiten=False,
    epochs=2,
)
EVOLVE = EvolveConfig(**config(n_generations=1, population_size=2, b=0.1).model_dump(), start="analytic", proxy=PROXY)
LAYERS = 8


def candidate(index: int = 0, sigma: float = 0.4) -> Candidate:
    return Candidate(2, index, 100 + index, Genotype(sigma, (sigma,) * LAYERS))


def changed(task: ProxyTask, **proxy) -> ProxyTask:
    """``task`` with other values in `evolve.proxy`."""
    return replace(task, evolve=task.evolve.model_copy(update={"proxy": task.evolve.proxy.model_copy(update=proxy)}))


def train_images(task: ProxyTask) -> PackedImages:
    """The images that candidates are trained on."""
    return load_prepared(task.prepared).proxy_train(task.evolve.proxy.images)
