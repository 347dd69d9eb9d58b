"""Worker processes and the GPUs that they are given."""

import pytest
import torch

from pipelines.engines.pools import Processes


@pytest.mark.parametrize(("gpu", "seen"), [("0", 1), ("-1", 0)])
def test_a_worker_process_sees_its_own_gpu_alone(gpu, seen, device):
    with Processes(1, gpus=[gpu]) as pool:
        assert pool.submit(torch.cuda.device_count).result() == (seen if device.type == "cuda" else 0)
