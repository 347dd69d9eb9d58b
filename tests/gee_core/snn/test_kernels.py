"""The LIF's loops over time: compiled == eager, bit for bit, and eager where there is no compiler."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from gee_core.snn import kernels
from gee_core.snn.lif import ILIF, LIF

NEURONS = [LIF(tau=2.0), LIF(tau=1.5, decay_input=False, v_threshold=1.0), ILIF(levels=2, v_threshold=0.5)]
DYNAMICS = [neurons.dynamics() for neurons in NEURONS]
has_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


@pytest.fixture
def everything_compiles(monkeypatch):
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 0)
    monkeypatch.setattr(kernels, "_compiles", [True])


@pytest.mark.slow
@has_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("dynamics", "dtype"), [(DYNAMICS[0], torch.float32), (DYNAMICS[0], torch.bfloat16), (DYNAMICS[2], torch.float32)]
)
def test_compiled_loops_give_the_bits_of_the_eager_ones(everything_compiles, dynamics, dtype):
    generator = torch.Generator().manual_seed(0)
    for N in (37, 5_001):  # any size by the same code
        x = torch.randn(4, N, generator=generator).to(dtype) * 2
        grad_s = torch.randn(4, N, generator=generator).to(dtype)
        spikes = kernels.run_loop(kernels.spikes_TN, x, dynamics)
        assert torch.equal(spikes, kernels.spikes_TN(x, dynamics))
        assert 0 < spikes.mean() < spikes.max()
        gradient = kernels.run_loop(kernels.current_gradient_TN, x, grad_s, dynamics)
        assert torch.equal(gradient, kernels.current_gradient_TN(x, grad_s, dynamics))
    assert kernels._compiles == [True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("dynamics", DYNAMICS[:2])
@pytest.mark.parametrize("T", [1, 4])
def test_the_eager_forms_give_the_bits_of_the_loops_that_compile(dynamics, dtype, T):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randint(-8, 8, (T, 1000), generator=generator) / 4).to(dtype)  # many neurons stand exactly at the threshold
    grad_s = torch.randn(T, 1000, generator=generator).to(dtype)
    *membrane, v_threshold, _ = dynamics.constants
    assert (kernels._membrane_TN(x, *membrane, v_threshold) == v_threshold).any()
    for loop, args in ((kernels.spikes_TN, (x, dynamics)), (kernels.current_gradient_TN, (x, grad_s, dynamics))):
        kept = [a.clone() for a in args if isinstance(a, torch.Tensor)]
        found = kernels.EAGER[loop](*args)
        assert found.dtype == dtype
        assert torch.equal(found, loop(*args))
        assert all(map(torch.equal, kept, (a for a in args if isinstance(a, torch.Tensor))))


def test_where_compiling_fails_neurons_run_eagerly_and_say_so_once(everything_compiles, monkeypatch, caplog):
    def no_compiler(loop, on_gpu):
        raise RuntimeError("no C++ compiler found\nand more")

    monkeypatch.setattr(kernels, "_compiled", no_compiler)
    x = torch.randn(4, 100)
    with caplog.at_level(logging.WARNING):
        first = kernels.run_loop(kernels.spikes_TN, x, DYNAMICS[0])
        second = kernels.run_loop(kernels.spikes_TN, x, DYNAMICS[0])
    assert torch.equal(first, kernels.spikes_TN(x, DYNAMICS[0]))
    assert torch.equal(first, second)
    assert [record.getMessage() for record in caplog.records] == [
        "torch.compile is not available (no C++ compiler found): neurons run eagerly, equal up to rounding"
    ]


def test_what_was_compiled_for_another_cpu_is_not_found(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda loop, **options: loop)
    folders = []
    for capability in ("AVX2", "AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=capability: found)
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        kernels._compiled.__wrapped__(kernels.spikes_TN, False)
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folders[0] == folders[2] != folders[1]
    assert all(Path(folder).parent == Path(tempfile.gettempdir()) for folder in folders)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/mine")
    kernels._compiled.__wrapped__(kernels.spikes_TN, False)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/mine"


def test_full_memory_is_no_reason_to_run_eagerly_from_then_on(everything_compiles, monkeypatch):
    def full(loop, on_gpu):
        raise torch.OutOfMemoryError("CUDA out of memory")

    x = torch.randn(4, 100)
    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(kernels, "_compiled", full)
        kernels.run_loop(kernels.spikes_TN, x, DYNAMICS[0])
    assert kernels.compiles(x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_in_another_layout_than_the_input_are_those_in_its_own(layout):
    x = torch.randn(8, 3, 5, 6).to(memory_format=layout).requires_grad_()
    other = torch.contiguous_format if layout is torch.channels_last else torch.channels_last
    grad = torch.randn(8, 3, 5, 6)
    gradients = [torch.autograd.grad(LIF(T=4)(x), x, grad.to(memory_format=f))[0] for f in (layout, other)]
    assert torch.equal(*gradients)
    expanded = torch.autograd.grad(LIF(T=4)(x), x, torch.ones(()).expand(8, 3, 5, 6))[0]
    assert torch.equal(expanded, torch.autograd.grad(LIF(T=4)(x), x, torch.ones(8, 3, 5, 6))[0])


def test_a_long_training_run_compiles_smaller_tensors_too(monkeypatch):
    monkeypatch.setattr(kernels, "_compiles", [True])
    small, large = torch.zeros(kernels.IN_LONG_RUNS), torch.zeros(kernels.WORTH_COMPILING)
    assert not kernels.compiles(small) and kernels.compiles(large)
    with kernels.long_run(kernels.LONG_RUN - 1):
        assert not kernels.compiles(small)
        with kernels.long_run(kernels.LONG_RUN):
            assert kernels.compiles(small) and not kernels.compiles(small[1:])
    assert not kernels.compiles(small)
