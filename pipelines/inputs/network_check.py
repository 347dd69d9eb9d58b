"""Checks of the configured network that need its images, before they are prepared."""

from pathlib import Path
from typing import NamedTuple

from gee_core.config import Params, PrepareConfig
from gee_core.config.known_networks import is_own
from gee_core.errors import InputError, in_short
from pipelines.inputs.own_network import build_own_network

HEADS = 100
"""At most this many image files are looked into for their channels."""


class ExpectedImages(NamedTuple):
    """``ImageShape`` of images that may not be prepared yet, and ``origin``: where the numbers of image files come from."""

    num_classes: int
    in_channels: int
    image_size: int
    origin: str = ""


def expected_images(cfg: PrepareConfig) -> ExpectedImages:
    """The images of the section `prepare`, of which a folder is looked into."""
    if known := cfg.known:
        return ExpectedImages(known.n_classes, known.channels, cfg.image_size or known.side)
    from gee_core.data.folders import list_images
    from gee_core.data.image_files import header

    root = Path(cfg.path)
    listing = list_images(root)
    files = [file for part in (listing.train, listing.val, listing.test) if part for file in part.files]
    heads = [header(root / file) for file in files[:: -(-len(files) // HEADS)]]
    K, C = len(listing.class_names), 1 if all(head.is_grey for head in heads) else 3
    origin = f" (tried with {K} classes and {C} channel{'s' if C > 1 else ''}, by {len(heads)} of the images in {root})"
    return ExpectedImages(K, C, cfg.image_size or min(heads[0][:2]), origin)


def check_network(params: Params) -> None:
    """Check an own network by two images through it, and any network by two images of each of `evolve.sizes`, `train.sizes`."""
    sizes = {"evolve": params.evolve.sizes, "train": params.train.sizes}
    own = is_own(params.network.name)
    if not own and not any(sizes.values()):
        return
    images = expected_images(params.prepare)
    if own:
        net = build_own_network(params, images, images.origin)
        if params.train.sync_batch_norm:
            from gee_core.snn.synced_norm import sync_batch_norms

            sync_batch_norms(net)
    for section, wanted in sizes.items():
        if wanted is not None:
            _check_sizes(f"{section}.sizes = {wanted}", wanted, params, images)


def _check_sizes(named: str, sizes: list[int], params: Params, images: ExpectedImages) -> None:
    import torch

    from gee_core.model.wired import wired_network

    if max(sizes) > images.image_size:
        raise InputError(f"{named}: the images have {images.image_size} pixels", f"set it to {images.image_size} or less")
    net = wired_network(params.network.model_copy(update={"n_genes": None, "init": None}), images, None, 0).eval()
    for size in sorted(set(sizes)):
        try:
            with torch.no_grad():
                net(torch.zeros(2, images.in_channels, size, size))
        except (RuntimeError, ValueError) as error:
            problem = f"{named}: {params.network.name} does not run on images of {size} pixels ({in_short(error)})"
            raise InputError(problem, f"leave out {size}, or choose a greater one") from None
