"""Loops over time of neurons, in one pass over memory in each direction, and how loops are compiled.

The loops are plain functions of tensors, which `run_loop` compiles where that pays. Compiled and eager loops do the same
arithmetic on a CPU, because the compiler does not contract multiplications and additions there: LIF's loops give the same bits,
and the batch norm's sums differ only in the order of their terms. On a GPU they agree up to rounding: Triton contracts them.

Shapes: T steps, N neurons times batch in any layout. They compute in float32 (float64 for float64 arguments).
"""

import functools
import getpass
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gee_core.compute import cpu_kind
from gee_core.errors import out_of_memory
from gee_core.settings import CoreSettings
from gee_core.snn.dynamics import Dynamics, lif_spikes, wide

log = logging.getLogger(__name__)

Loop = Callable[..., Any]
"""A function of tensors and of numbers that `run_loop` compiles."""

WORTH_COMPILING = 2**22
"""Least number of elements for a compiled loop on a CPU. Below it, loading the compiler costs more than it saves."""

IN_LONG_RUNS = 2**16
"""The same in ``long_run``, where the compiler is loaded anyway."""

LONG_RUN = 2**35
"""Least number of values in the largest layer, over all images of a run, for ``long_run``."""

is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
"""Whether torch is exporting. Torch 2.6 knows only whether it is exporting or compiling it."""

MAX_FORMS = 256
"""At most this many variants of one loop are compiled in a process."""


def spikes_TN(x: Tensor, dynamics: Dynamics) -> Tensor:
    """Spikes (T, N), of the type of the currents ``x`` (T, N)."""
    fire, _, constants = dynamics
    return torch.stack([s.to(x.dtype) for s in fire([wide(x_t) for x_t in x.unbind(0)], *constants)])


def current_gradient_TN(x: Tensor, grad_s: Tensor, dynamics: Dynamics) -> Tensor:
    """dL/dx (T, N) from dL/ds (T, N): recomputes the membrane of the currents ``x``, then goes back through time."""
    _, back, constants = dynamics
    return torch.stack([g.to(x.dtype) for g in back([wide(x_t) for x_t in x.unbind(0)], grad_s, *constants)])


def eager_spikes_TN(x: Tensor, dynamics: Dynamics) -> Tensor:
    """`spikes_TN`, of LIF in few operations: the same bits, and faster where it is not compiled."""
    if dynamics.fire is not lif_spikes:
        return spikes_TN(x, dynamics)
    tau, decay_input, v_threshold, _ = dynamics.constants
    return _membrane_TN(x, tau, decay_input, v_threshold).ge_(v_threshold).to(x.dtype)


def eager_current_gradient_TN(x: Tensor, grad_s: Tensor, dynamics: Dynamics) -> Tensor:
    """`current_gradient_TN`, of LIF in few operations: the same bits, and faster where it is not compiled."""
    if dynamics.fire is not lif_spikes:
        return current_gradient_TN(x, grad_s, dynamics)
    tau, decay_input, v_threshold, alpha = dynamics.constants
    u = _membrane_TN(x, tau, decay_input, v_threshold).sub_(v_threshold)
    silent = torch.lt(u, 0.0, out=torch.empty_like(u))
    grad_h = u.abs_().mul_(alpha * alpha).neg_().add_(alpha).clamp_min_(0.0).mul_(wide(grad_s))
    for t in range(len(u) - 2, -1, -1):
        grad_h[t] += silent[t].mul_(grad_h[t + 1] * (1.0 - 1.0 / tau))
    return (grad_h.div_(tau) if decay_input else grad_h).to(x.dtype)


def _membrane_TN(x: Tensor, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    """The membrane h (T, N), as of `charge_and_fire`. Comparisons give numbers, because bools take several times longer."""
    h, before = x.to(torch.promote_types(x.dtype, torch.float32), copy=True), None
    for h_t in h.unbind(0):
        if before is None:
            h_t.div_(tau if decay_input else 1.0)
        else:
            v = torch.lt(before, v_threshold, out=torch.empty_like(before)).mul_(before)
            if decay_input:
                h_t.sub_(v).div_(tau).add_(v)
            else:
                h_t.add_(v - v / tau)
        before = h_t
    return h


def compiles(x: Tensor) -> bool:
    """Whether `run_loop` would compile a loop over ``x``."""
    if torch.compiler.is_compiling() or is_exporting():
        return False
    if not _compiles:
        _compiles.append(CoreSettings.read().compile == "1")
    return _compiles[0] and (x.is_cuda or x.numel() >= (IN_LONG_RUNS if any(_long_runs) else WORTH_COMPILING))


@contextmanager
def long_run(values: int) -> Iterator[None]:
    """Context of a training run whose largest layer has ``values`` values in all: in a long run, smaller tensors pay too."""
    _long_runs.append(values >= LONG_RUN)
    try:
        yield
    finally:
        _long_runs.pop()


def run_loop(loop: Loop, x: Tensor, *args: object) -> Any:
    """``loop(x, *args)``, compiled where that pays and is possible."""
    if compiles(x):
        try:
            compiled = _compiled(loop, x.is_cuda)
            kind = x.device.type
            autocast = torch.is_autocast_enabled(kind) and (torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled())
            # with the part of torch's own state that decides which variant runs
            state = torch.is_grad_enabled(), autocast, torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
            form = compiled, _form((x, *args)), state
            if form in _known:
                return compiled(x, *args)
            with _how_to_compile(x, args):
                result = compiled(x, *args)
            _known.add(form)
            return result
        except Exception as error:  # no C++ compiler or Triton, a cache that cannot be written, …: the eager form needs none
            if out_of_memory(error):
                raise
            _compiles[0] = False
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            log.warning("torch.compile is not available (%s): neurons run eagerly, equal up to rounding", reason)
    return loop(x, *args) if is_exporting() else EAGER.get(loop, loop)(x, *args)


def _form(args: object) -> object:
    """The properties of ``args`` that decide which compiled variant of a loop runs."""
    if isinstance(args, Tensor):
        return args.shape, args.stride(), args.dtype, args.device, args.requires_grad
    if isinstance(args, tuple | list):
        return tuple(map(_form, args))
    return args


@contextmanager
def _how_to_compile(x: Tensor, args: tuple[object, ...]) -> Iterator[None]:
    """Context of a loop's first run on a form. Every use keeps two variables for the life of the process, and takes 0.2 ms."""
    from torch._dynamo import config as dynamo_config  # takes seconds
    from torch.fx.experimental import _config as fx_config

    if x.is_cuda:
        _fix_channels((x, *args))
    limit = "recompile_limit" if hasattr(dynamo_config, "recompile_limit") else "cache_size_limit"  # of torch 2.6
    # use_duck_shape: two sizes that are equal by chance do not become a condition
    # specialize_float: else constants are float64 arguments of a GPU's kernels, slow on many GPUs
    with (
        fx_config.patch(use_duck_shape=False),  # type: ignore[attr-defined]
        dynamo_config.patch({limit: MAX_FORMS, "specialize_float": x.is_cuda}),
    ):
        yield


def _fix_channels(args: Iterable[object]) -> None:
    """Compile a variant for each number of channels: only if Triton knows it, it loads and stores several values at once."""
    for arg in args:
        if isinstance(arg, tuple | list):
            _fix_channels(arg)
        elif isinstance(arg, Tensor) and arg.ndim == 4:
            torch._dynamo.mark_static(arg, 1)


EAGER: dict[Loop, Loop] = {
    spikes_TN: eager_spikes_TN,
    current_gradient_TN: eager_current_gradient_TN,
}
"""The function that runs in place of a loop that is not compiled."""

_long_runs: list[bool] = []
"""Whether each training run that this process is in is a long one."""

_compiles: list[bool] = []
"""Whether this process compiles loops, as GEE_COMPILE says at the first use. After compiling has failed it does not."""


_known: set[tuple[object, ...]] = set()
"""Compiled loops, each with a form of arguments on which it has run."""

ON_GPU = {
    "realize_opcount_threshold": 10**6,
    "realize_reads_threshold": 10**6,
    "max_pointwise_cat_inputs": 0,
    "max_complex_pointwise_cat_inputs": 0,
}
"""Options of torch's compiler for a GPU. The first two keep the membrane out of memory. The others keep a step of the output
from computing the earlier steps anew."""


@functools.cache
def _compiled(loop: Loop, on_gpu: bool) -> Loop:
    # torch keeps what it compiles, and does not look for which CPU: on another one, that gives wrong numbers or a crash
    name = f"torchinductor_{os.getuid() if hasattr(os, 'getuid') else getpass.getuser()}_{cpu_kind()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), name))
    options: dict[str, str | int | bool | Callable[..., object]] = {}
    if not on_gpu or multiprocessing.parent_process() is not None:  # next to others, a worker starts no processes of its own
        options["compile_threads"] = 1
    if on_gpu:
        from torch._inductor import config

        options |= {key: value for key, value in ON_GPU.items() if hasattr(config, key)}
    return torch.compile(loop, dynamic=True, fullgraph=True, options=options)
