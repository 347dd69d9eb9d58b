"""Loops over time of LIF neurons, alone or after a batch norm, in one or two passes over memory in each direction.

The loops are plain functions of tensors, which `run` compiles where that pays. Compiled and eager loops do the same
arithmetic, because the compiler does not contract multiplications and additions: LIF's loops give the same bits, and the
batch norm's sums differ only in the order of their terms.

Shapes: T steps, N neurons times batch in any layout; B batch, C channels, H W space, channels-last in memory, which the loops
view as (T, B, S, C) with S = H*W. They compute in float32 (float64 for float64 arguments).
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gee_core.settings import CoreSettings

log = logging.getLogger(__name__)

WORTH_COMPILING = 2**22
"""Least number of elements for a compiled loop on a CPU; below it, loading the compiler costs more than it saves."""

IN_LONG_RUNS = 2**16
"""The same in ``long_run``, where the compiler is loaded anyway."""

LONG_RUN = 2**35
"""Least number of values in the largest layer, over all images of a run, for ``long_run``: about two epochs of CIFAR-10 in a
CIFARNet of a quarter of the paper's channels."""

MAX_FORMS = 64
"""Most variants of one loop that a process compiles: one per T, dtype and set of constants, with a residual or without."""


def spikes_TN(x: Tensor, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    """Spikes (T, N), of the type of the currents ``x`` (T, N)."""
    membrane = _charge_and_fire([_wide(x_t) for x_t in x.unbind(0)], tau, decay_input, v_threshold)
    return torch.stack([(h >= v_threshold).to(x.dtype) for h in membrane])


def current_gradient_TN(x: Tensor, grad_s: Tensor, tau: float, decay_input: bool, v_threshold: float, alpha: float) -> Tensor:
    """dL/dx (T, N) from dL/ds (T, N): recomputes the membrane of the currents ``x``, then goes back through time."""
    membrane = _charge_and_fire([_wide(x_t) for x_t in x.unbind(0)], tau, decay_input, v_threshold)
    return torch.stack([g.to(x.dtype) for g in _back_through_time(membrane, grad_s, tau, decay_input, v_threshold, alpha)])


def eager_spikes_TN(x: Tensor, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    """`spikes_TN` in few operations: the same bits, and faster where it is not compiled."""
    return _membrane_TN(x, tau, decay_input, v_threshold).ge_(v_threshold).to(x.dtype)


def eager_current_gradient_TN(
    x: Tensor, grad_s: Tensor, tau: float, decay_input: bool, v_threshold: float, alpha: float
) -> Tensor:
    """`current_gradient_TN` in few operations: the same bits, and faster where it is not compiled."""
    u = _membrane_TN(x, tau, decay_input, v_threshold).sub_(v_threshold)
    silent = torch.lt(u, 0.0, out=torch.empty_like(u))
    grad_h = u.abs_().mul_(alpha * alpha).neg_().add_(alpha).clamp_min_(0.0).mul_(_wide(grad_s))
    for t in range(len(u) - 2, -1, -1):
        grad_h[t] += silent[t].mul_(grad_h[t + 1] * (1.0 - 1.0 / tau))
    return (grad_h.div_(tau) if decay_input else grad_h).to(x.dtype)


def _membrane_TN(x: Tensor, tau: float, decay_input: bool, v_threshold: float) -> Tensor:
    """The membrane h (T, N), as of `_charge_and_fire`. Comparisons give numbers, because bools take several times longer."""
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


def norm_spikes(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, T: int, rows: int, *lif: Any) -> Tensor:
    """Spikes (T*B, C, H, W) of currents ``scale·x + shift (+ residual)``.

    ``x`` is (rows*B, C, H, W): rows is T, or 1 where the same row drives every step. ``residual`` is (T*B, C, H, W).
    """
    tau, decay_input, v_threshold = lif
    membrane = _charge_and_fire(_currents(_split(x, rows), scale, shift, residual, T), tau, decay_input, v_threshold)
    return _join(torch.stack([(h >= v_threshold).to(x.dtype) for h in membrane]), x)


def batch_norm_spikes(
    x: Tensor, near: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None, T: int, rows: int, *lif: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """(spikes (T*B, C, H, W), mean (C,), biased variance (C,)) with the statistics of the batch ``x`` itself.

    ``near`` (C,) is any estimate of the mean, such as the running mean: sums are taken about it, to avoid cancellation.
    """
    mean, var = _statistics(_split(x, rows), near)
    scale, shift = _affine(weight, bias, mean, (var + eps).rsqrt())
    return norm_spikes(x, scale, shift, residual, T, rows, *lif), mean, var


def channel_sums(x: Tensor, near: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Sums of ``x`` (rows*B, C, H, W) about ``near`` (C,), and of their squares, each (C,): see `batch_norm_spikes`."""
    return _sums(_split(x, rows), near)


def of_sum(x: Tensor, stream: Tensor, loop: Callable, T: int, *args: Any) -> tuple[Tensor, Any]:
    """(y, ``loop(y, *args)``) for y = ``x + stream`` (T*B, C, H, W).

    ``stream`` is of the same shape, or (B, C, H, W) where it is the same at every step.
    """
    total = _wide(_split(x, T)) + _wide(_split(stream, 1 if stream.shape[0] < x.shape[0] else T))
    y = _join(total.to(torch.promote_types(x.dtype, stream.dtype)), x)
    return y, loop(y, *args)


def batch_norm_spikes_gradient(
    x: Tensor,
    norm: tuple[Tensor, ...],
    eps: float,
    residual: Tensor | None,
    grad_s: Tensor,
    grad_x: Tensor | None,
    T: int,
    rows: int,
    *lif: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """(dL/dx, dL/dweight, dL/dbias, dL/dresidual or None) of `batch_norm_spikes`.

    ``grad_x``: the gradient that reaches ``x``, a stream, from elsewhere.
    """
    g, grad_weight, grad_bias = normed_gradient(x, norm, eps, residual, grad_s, T, rows, *lif)
    grad_y = gradient_through_norm(x, g, norm, eps, grad_weight, grad_bias, _count(_split(x, rows)), grad_x, rows)
    return grad_y, grad_weight, grad_bias, None if residual is None else g


def normed_gradient(
    x: Tensor, norm: tuple[Tensor, ...], eps: float, residual: Tensor | None, grad_s: Tensor, T: int, rows: int, *lif: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """(dL/dy (rows*B, C, H, W) of what the batch norm puts out, dL/dweight, dL/dbias) of `batch_norm_spikes`."""
    weight, bias, mean, var = norm
    tau, decay_input, v_threshold, alpha = lif
    y = _split(x, rows)
    inv_std = (var + eps).rsqrt()
    scale, shift = _affine(weight, bias, mean, inv_std)
    membrane = _charge_and_fire(_currents(y, scale, shift, residual, T), tau, decay_input, v_threshold)
    gradients = _back_through_time(membrane, _split(grad_s, T), tau, decay_input, v_threshold, alpha)
    if rows < T:
        gradients = [functools.reduce(torch.add, gradients)]
    g = torch.stack([g.to(x.dtype) for g in gradients])  # rounded, as a separate batch norm would receive it
    return _join(g, x), _sum_to_channels(_wide(g) * ((_wide(y) - mean) * inv_std)), _sum_to_channels(_wide(g))


def gradient_through_norm(
    x: Tensor,
    g: Tensor,
    norm: tuple[Tensor, ...],
    eps: float,
    grad_weight: Tensor,
    grad_bias: Tensor,
    n: int | Tensor,
    grad_x: Tensor | None,
    rows: int,
) -> Tensor:
    """dL/dx of a batch norm over ``n`` values per channel, from dL/dy = ``g``; the sums are those over all ``n``."""
    weight, _, mean, var = norm
    inv_std = (var + eps).rsqrt()
    normed = (_wide(_split(x, rows)) - mean) * inv_std
    grad_y = weight * inv_std * (_wide(_split(g, rows)) - grad_bias / n - normed * (grad_weight / n))
    if grad_x is not None:
        grad_y = grad_y + _wide(_split(grad_x, rows))
    return _join(grad_y.to(x.dtype), x)


def _charge_and_fire(currents: Sequence[Tensor], tau: float, decay_input: bool, v_threshold: float) -> list[Tensor]:
    """The membrane h_t at every step, before it fires; it is at rest before the first step."""
    membrane, v = [], None
    for x_t in currents:
        h = _charge(x_t, v, tau, decay_input)
        membrane.append(h)
        v = h * (1.0 - (h >= v_threshold).to(h.dtype))
    return membrane


def _charge(x_t: Tensor, v: Tensor | None, tau: float, decay_input: bool) -> Tensor:
    if v is None:  # at rest
        return x_t / tau if decay_input else x_t
    return v + (x_t - v) / tau if decay_input else v - v / tau + x_t


def _back_through_time(
    membrane: Sequence[Tensor], grad_s: Tensor, tau: float, decay_input: bool, v_threshold: float, alpha: float
) -> list[Tensor]:
    """dL/dx_t of every step, with the triangular surrogate and a detached reset."""
    gradients, grad_v = [], None
    for h, grad_s_t in zip(reversed(membrane), reversed(grad_s.unbind(0)), strict=True):
        u = h - v_threshold
        grad_h = _wide(grad_s_t) * (alpha - alpha * alpha * u.abs()).clamp_min(0.0)
        if grad_v is not None:
            grad_h = grad_h + grad_v * (1.0 - (u >= 0).to(h.dtype))
        gradients.append(grad_h / tau if decay_input else grad_h)
        grad_v = grad_h * (1.0 - 1.0 / tau)
    return gradients[::-1]


def _currents(y: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, T: int) -> list[Tensor]:
    normed = [_wide(y_t) * scale + shift for y_t in y.unbind(0)]
    if len(normed) < T:
        normed *= T
    if residual is None:
        return normed
    return [z + _wide(r) for z, r in zip(normed, _split(residual, T).unbind(0), strict=True)]


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, inv_std: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight * inv_std
    return scale, bias - mean * scale


def _statistics(y: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    d_mean, d2_mean = (total / _count(y) for total in _sums(y, near))
    return near + d_mean, (d2_mean - d_mean * d_mean).clamp_min(0.0)


def _sums(y: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    d = _wide(y) - near
    return _sum_to_channels(d), _sum_to_channels(d * d)


def _count(y: Tensor) -> int:
    return y.shape[0] * y.shape[1] * y.shape[2]


def _sum_to_channels(x: Tensor) -> Tensor:
    """(…, B, S, C) → (C,): first over the positions of an image, which fit a core's cache, then over the images."""
    return x.sum(2).sum((0, 1))


def _split(x: Tensor, rows: int) -> Tensor:
    """(rows*B, C, H, W), channels-last → (rows, B, H*W, C), the same memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (rows, -1))


def _join(y: Tensor, like: Tensor) -> Tensor:
    """(T, B, H*W, C) → (T*B, C, H, W) with the H and W of ``like``, the same memory."""
    return y.flatten(0, 1).unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def compiles(x: Tensor) -> bool:
    """Whether `run` would compile a loop over ``x``."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    if not _compiles:
        _compiles.append(CoreSettings.read().compile == "1")
    return _compiles[0] and (x.is_cuda or x.numel() >= (IN_LONG_RUNS if any(_long_runs) else WORTH_COMPILING))


@contextmanager
def long_run(values: int) -> Iterator[None]:
    """Context of a training run whose largest layer has ``values`` values in all: if they are many, smaller tensors pay too."""
    _long_runs.append(values >= LONG_RUN)
    try:
        yield
    finally:
        _long_runs.pop()


def run(loop: Callable, x: Tensor, *args: Any) -> Any:
    """``loop(x, *args)``, compiled where that pays and is possible."""
    if compiles(x):
        from torch._dynamo import config as dynamo_config  # takes seconds
        from torch.fx.experimental import _config as fx_config

        try:
            # use_duck_shape: two sizes that are equal by chance do not become a condition
            with (
                fx_config.patch(use_duck_shape=False),  # type: ignore[attr-defined]
                dynamo_config.patch(recompile_limit=MAX_FORMS),
            ):
                return _compiled(loop)(x, *args)
        except Exception as error:  # no C++ compiler or Triton, a cache that cannot be written, …: the eager form needs none
            _compiles[0] = False
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            log.warning("torch.compile is not available (%s): neurons run eagerly, equal up to rounding", reason)
    return loop(x, *args) if torch.compiler.is_exporting() else EAGER.get(loop, loop)(x, *args)


EAGER: dict[Callable, Callable] = {spikes_TN: eager_spikes_TN, current_gradient_TN: eager_current_gradient_TN}
"""What runs in place of a loop that is not compiled."""

_long_runs: list[bool] = []
"""Whether each training run that this process is in is a long one."""

_compiles: list[bool] = []
"""Whether this process compiles loops: what GEE_COMPILE says at the first use, and no longer once compiling has failed."""


@functools.cache
def _compiled(loop: Callable) -> Callable:
    return torch.compile(loop, dynamic=True, fullgraph=True, options={"compile_threads": 1})
