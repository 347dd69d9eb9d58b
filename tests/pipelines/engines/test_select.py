import os
import sys

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


@pytest.mark.parametrize(
    ("value", "count", "isolated", "pool"),
    [
        ("", 2, True, Processes),
        ("", 1, True, Processes),
        ("", 2, False, Processes),
        ("", 1, False, Serial),
        ("serial", 2, True, Serial),
    ],
)
def test_the_environment_names_the_pool_and_one_job_needs_no_process_unless_isolated(
    value, count, isolated, pool, base, monkeypatch
):
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


def test_a_missing_package_is_named_with_the_command_that_installs_it(base, digits, monkeypatch):
    monkeypatch.setenv("GEE_ENGINE", "dask")
    monkeypatch.setenv("GEE_DASK", "scheduler.json")
    monkeypatch.delitem(sys.modules, "pipelines.engines.dask", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        InputError, match=r'^GEE_ENGINE = dask: the package distributed is missing: pip install -e "./pipelines\[dask\]"$'
    ):
        open_pool(2, 1, [digits], [base])


def test_a_cpu_takes_a_job_per_core_a_gpu_one_and_a_scheduler_one_per_worker(base, monkeypatch):
    assert default_count([base]) == 5
    with monkeypatch.context() as patch:
        patch.setattr(Compute, "of", lambda *names: Compute(torch.device("cuda"), torch.float32))
        patch.setattr(torch.cuda, "device_count", lambda: 3)
        assert default_count([base]) == 5
        assert default_count([base, on(base, "cuda")]) == 3
        assert default_count([on(base, "cuda:1")]) == 1
        patch.setattr(choice.metadata, "version", lambda name: "2.13.0+cpu")  # cannot see a GPU, so torch is not asked
        assert default_count([on(base, "auto")]) == 5
        patch.setattr(choice.metadata, "version", lambda name: "2.13.0")
        assert default_count([on(base, "auto")]) == 3
    monkeypatch.setenv("GEE_ENGINE", "dask")
    monkeypatch.setenv("GEE_DASK", "scheduler.json")
    assert default_count([base]) is None
    monkeypatch.setenv("GEE_ENGINE", "serial")
    assert default_count([base]) == 1


@pytest.mark.parametrize(
    ("visible", "device", "names"),
    [
        (None, "cuda", ["0", "1", "2"]),
        ("4,GPU-8932f937,6,-1,7", "cuda", ["4", "GPU-8932f937", "6"]),
        ("4,5,6", "cuda:1", []),
        ("4,5,6", "cpu", []),
    ],
)
def test_jobs_are_spread_over_the_gpus_that_torch_sees_unless_one_is_named(visible, device, names, base, monkeypatch):
    monkeypatch.setattr(Compute, "of", lambda *names: Compute(torch.device("cuda"), torch.float32))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus([on(base, device)]) == names
