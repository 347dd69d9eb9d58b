import os

import pytest
import torch

from gee_core.compute import Compute
from gee_core.errors import InputError
from pipelines.engines import select as choice
from pipelines.engines.pools import Processes, Serial
from pipelines.engines.select import default_count, engine_name, gpus, open_pool


@pytest.fixture(autouse=True)
def _five_cores_and_a_clean_environment(monkeypatch):
    for name in ("GEE_ENGINE", "GEE_DASK", "GEE_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(5))


@pytest.fixture
def base(make_params):
    return make_params().base


def on(base, device):
    return base.model_copy(update={"device": device})


ISOLATED = [("", 1, True, Processes), ("", 2, False, Processes), ("", 1, False, Serial), ("serial", 2, True, Serial)]


@pytest.mark.parametrize(("value", "count", "isolated", "pool"), ISOLATED)
def test_the_environment_names_the_pool_and_one_job_may_run_in_this_process(value, count, isolated, pool, base, monkeypatch):
    monkeypatch.setenv("GEE_ENGINE", value)
    assert type(open_pool(count, 1, [], [base], isolated)) is pool


def test_a_scheduler_that_nobody_asks_is_refused_and_its_address_not_shown(monkeypatch):
    monkeypatch.setenv("GEE_DASK", "tls://user:secret@head:8786")
    with pytest.raises(InputError, match=r"^GEE_DASK has no effect without GEE_ENGINE=dask: set that too, or unset GEE_DASK$"):
        engine_name()
    monkeypatch.setenv("GEE_ENGINE", "dask")
    engine_name()
    monkeypatch.delenv("GEE_DASK")
    with pytest.raises(InputError, match=r"^GEE_DASK: not set, and GEE_ENGINE=dask needs a scheduler: start one"):
        engine_name()


VISIBLE = [
    ("cpu", None, 5, []),
    ("cuda", None, 3, ["0", "1", "2"]),
    ("cuda", "4,GPU-8932f937,6,-1,7", 3, ["4", "GPU-8932f937", "6"]),
    ("cuda:1", "4,5,6", 1, []),
]


@pytest.mark.parametrize(("device", "visible", "count", "names"), VISIBLE)
def test_a_cpu_takes_a_job_per_core_and_each_gpu_one_unless_one_is_named(device, visible, count, names, base, monkeypatch):
    monkeypatch.setattr(Compute, "of", lambda *_: Compute(torch.device("cuda"), torch.float32))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    bases = [base, on(base, device)]
    assert (default_count(bases), gpus(bases)) == (count, names)


@pytest.mark.parametrize(("release", "count"), [("2.13.0+cpu", 5), ("2.13.0", 3)])
def test_a_torch_that_cannot_see_a_gpu_is_not_asked_for_one(release, count, base, monkeypatch):
    monkeypatch.setattr(Compute, "of", lambda *_: Compute(torch.device("cuda"), torch.float32))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(choice.metadata, "version", lambda name: release)
    assert default_count([on(base, "auto")]) == count


def test_a_scheduler_takes_a_job_per_worker_and_a_serial_engine_one(base, monkeypatch):
    monkeypatch.setenv("GEE_ENGINE", "dask")
    monkeypatch.setenv("GEE_DASK", "scheduler.json")
    assert default_count([base]) is None
    monkeypatch.setenv("GEE_ENGINE", "serial")
    assert default_count([base]) == 1
