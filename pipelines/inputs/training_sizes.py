"""Checks that the network runs at the image sizes that it is to be trained at."""

from gee_core.config import Params
from gee_core.errors import InputError, in_short
from pipelines.inputs.own_network import ExpectedImages


def check_training_sizes(params: Params, images: ExpectedImages) -> None:
    """Check `evolve.sizes` and `train.sizes`, each with the network on two black images; nothing to do where both are null.

    Args:
        params: all of params.yaml.
        images: those of ``params``.

    Raises:
        InputError: a size is greater than that of the images, or too small for the network.
    """
    for section, sizes in (("evolve", params.evolve.sizes), ("train", params.train.sizes)):
        if sizes is None:
            continue
        import torch

        from gee_core.model.wired import wired_network

        key = f"{section}.sizes = {sizes}"
        if max(sizes) > images.image_size:
            raise InputError(f"{key}: the images have {images.image_size} pixels", f"set it to {images.image_size} or less")
        net = wired_network(params.network.model_copy(update={"n_genes": None, "init": None}), images, None, 0).eval()
        for size in sorted(set(sizes)):
            try:
                with torch.no_grad():
                    net(torch.zeros(2, images.in_channels, size, size))
            except (RuntimeError, ValueError) as error:
                problem = f"{key}: {params.network.name} does not run on images of {size} pixels ({in_short(error)})"
                raise InputError(problem, f"leave out {size}, or choose a greater one") from None
