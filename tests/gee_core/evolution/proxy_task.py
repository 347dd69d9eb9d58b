"""A proxy task on a few images, its candidates, and variations of it."""

from dataclasses import replace

from gee_core.config import BaseConfig, EvolveConfig, NetworkConfig
from gee_core.data.images import PackedImages
from gee_core.data.prepared import load_prepared
from gee_core.evolution.candidate import Candidate
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import Genotype

BASE = BaseConfig(seed=0, device="cpu", precision="fp32")
NETWORK = NetworkConfig(
    name="vgg16",
    block=None,
    pool="max",
    width=1 / 16,
    n_genes=6,
    T=3,
    tau=2.0,
    decay_input=True,
    v_threshold=0.5,
    v_reset=0.0,
    detach_reset=True,
    surrogate="piecewise_quadratic",
    surrogate_alpha=2.0,
    init=None,
)
EVOLVE = EvolveConfig(
    variant="ste",
    genotype="per_layer",
    n_generations=1,
    population_size=2,
    sigma=0.2,
    bound=4.0,
    proxy_epochs=2,
    proxy_images=None,
    sizes=None,
    T_schedule=None,
    norm_images=None,
    batch_size=8,
    optimizer="adamw",
    lr=0.01,
    weight_decay=0.01,
    a=0.1,
    b=0.1,
    tau_lambda=2.0,
    start="analytic",
    halving=None,
    lr_X=1.0,
    lr_O=1.0,
    rescore=None,
)
LAYERS = 8


def candidate(index: int = 0, sigma: float = 0.4) -> Candidate:
    return Candidate(2, index, 100 + index, Genotype(sigma, (sigma,) * LAYERS))


def changed(task: ProxyTask, **evolve) -> ProxyTask:
    """``task`` with other values in the section `evolve`."""
    return replace(task, evolve=task.evolve.model_copy(update=evolve))


def train_images(task: ProxyTask) -> PackedImages:
    """The images that candidates are trained on."""
    return load_prepared(task.prepared).proxy_train(task.evolve.proxy_images)
