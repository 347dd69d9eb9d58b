"""The first steps of evaluate and robustness, the stages that measure the trained network."""

from collections.abc import Iterator
from contextlib import contextmanager

from gee_core.compute import Compute, limit_threads
from gee_core.data.prepared import Prepared
from gee_core.model.base import SpikingNetwork
from gee_core.model.wired import largest_activation
from pipelines.engines.ranks import check_alike, joined
from pipelines.inputs.loading import load_trained, prepared_images
from pipelines.inputs.own_network import network_files
from pipelines.project.paths import CHECKPOINT, PREPARED
from pipelines.runtime.run_folder import run_key
from pipelines.stage import Stage, stage
from pipelines.tracking.pipeline_run import describe_datasets


@contextmanager
def measuring(name: str) -> Iterator[tuple[Stage, SpikingNetwork, Prepared, Compute]]:
    """Run the body as the stage ``name``. Yields the stage, the trained network, the images and this process's device.

    All processes of the stage are checked to measure the same network alike.
    """
    with stage(name) as s, joined(s.params.base) as compute:
        s = s.evolved()
        params, section, data = s.params, getattr(s.params, name), prepared_images()
        largest = largest_activation(params.network, data.meta, section.batch_size // compute.rank.of)
        limit_threads(largest, 2**22)  # passes are shorter where nothing is trained
        net = load_trained(params, data.meta).to(compute.device)
        files = [PREPARED / "meta.json", CHECKPOINT, CHECKPOINT.with_suffix(".json"), *network_files(params.network.name)]
        key = run_key(name, [params.base, params.network, section], files)
        check_alike(compute.rank, {"params, inputs and code": key})
        s.run.note(section.model_dump(), datasets=describe_datasets(data.meta, "testing"))
        yield s, net, data, compute
