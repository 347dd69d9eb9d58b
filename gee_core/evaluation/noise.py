"""Images with Gaussian noise whose norm is a fixed part of the image's norm (Sec. 4.2), and recordings with noise of events.

| noise of events | at strength r |
|---|---|
| `dropped` | each event is lost with probability r |
| `spurious` | r·N events are added to a recording of N, each at any frame, polarity and pixel |
| `hot` | r·N events are added to 1 % of its pixels and polarities, which fire all the time |
| `jitter` | each event moves with probability r to the frame before or after its own |

Shapes: B batch, C channels, H W space; T frames of P polarities.
"""

import math

import torch
from torch import Tensor

from gee_core.data.augment import Normalise, add_noise
from gee_core.rank import Place

NOISE_OF_EVENTS = ("dropped", "spurious", "hot", "jitter")


def noisy_input(
    images_BCHW: Tensor,
    normalise: Normalise,
    r: float,
    domain: str,
    generator: torch.Generator,
    place: Place | None = None,
    clip: int = 255,
) -> Tensor:
    """uint8 images → normalised, noisy network input (B, C, H, W), or (T, B, P, H, W) of recordings, whose counts are clipped.

    Paper: does not say what the noise is added to. Here: ``domain`` ``normalised`` adds it to the normalised tensor, ``image``
    to the image itself, unclipped, because the result changes about twofold.
    """
    if domain in NOISE_OF_EVENTS:
        return normalise(noisy_recordings(images_BCHW, domain, r, clip, generator, place))
    if domain == "image":
        return normalise(add_noise(images_BCHW.float(), r, generator, place))
    return add_noise(normalise(images_BCHW), r, generator, place)


def noisy_recordings(
    frames_BTPHW: Tensor, kind: str, r: float, clip: int, generator: torch.Generator, place: Place | None = None
) -> Tensor:
    """uint8 recordings with noise of a ``kind`` of ``NOISE_OF_EVENTS``. Counts stay at most ``clip``. ``place`` as above."""
    place = place or Place(0, len(frames_BTPHW))
    seed_B = place.of_all(torch.randint(2**62, (place.of,), generator=generator), len(frames_BTPHW)).tolist()
    seeded = zip(frames_BTPHW.cpu(), map(torch.Generator().manual_seed, seed_B), strict=True)
    noisy = [_noisy(x, kind, r, generator) for x, generator in seeded]
    return torch.stack(noisy).clamp_(max=clip).to(frames_BTPHW) if noisy else frames_BTPHW


def _noisy(x_TPHW: Tensor, kind: str, r: float, generator: torch.Generator) -> Tensor:
    x = x_TPHW.double()
    if kind in ("dropped", "jitter"):
        gone = torch.binomial(x, torch.full_like(x, r), generator=generator)
        if kind == "dropped":
            return x - gone
        later = torch.binomial(gone, torch.full_like(x, 0.5), generator=generator)
        later[0], later[-1] = gone[0], 0.0
        moved = torch.zeros_like(x)
        moved[1:] += later[:-1]
        moved[:-1] += (gone - later)[1:]
        return x - gone + moved if len(x) > 1 else x
    n, where = round(r * x.sum().item()), math.prod(x.shape)
    cells = torch.randint(where, (n,), generator=generator)
    if kind == "hot":
        pixels = where // len(x)
        hot = torch.randperm(pixels, generator=generator)[: max(1, pixels // 100)]
        cells = cells // pixels * pixels + hot[cells % len(hot)]
    return x + torch.bincount(cells, minlength=where).reshape(x.shape)
