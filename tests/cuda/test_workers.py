"""Worker processes and the GPUs that they are given."""

import pytest
import torch

from pipelines.engines.engine import run_each
from pipelines.engines.processes import Processes


def gpus_seen(job, tell):
    return torch.cuda.device_count()


@pytest.mark.parametrize(("gpu", "seen"), [("0", 1), ("-1", 0)])
def test_a_worker_process_sees_its_own_gpu_alone(gpu, seen, device):
    with Processes(1, gpus=[gpu]) as engine:
        assert dict(run_each(engine, gpus_seen, [0])) == {0: seen if device.type == "cuda" else 0}
