"""Worker processes and the GPUs that they are given."""

import pytest
import torch

from gee_core.config import BaseConfig
from pipelines.engines.candidates import memory_used
from pipelines.engines.engine import Processes, run_each


def gpus_seen(job, tell):
    return torch.cuda.device_count()


@pytest.mark.parametrize(("gpu", "seen"), [("0", 1), ("-1", 0)])
def test_a_worker_process_sees_its_own_gpu_alone(gpu, seen, device):
    with Processes(1, gpus=[gpu]) as engine:
        assert dict(run_each(engine, gpus_seen, [0])) == {0: seen if device.type == "cuda" else 0}


def test_a_worker_process_tells_how_full_its_gpu_is(device):
    with Processes(1, gpus=["0"] if device.type == "cuda" else []) as engine:
        ((_, used),) = run_each(engine, memory_used, [BaseConfig(seed=0, device=str(device), precision="auto")])
    assert (0 < used < 1) if device.type == "cuda" else used == 0
