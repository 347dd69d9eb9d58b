"""The shape of the images that an exported network takes."""

from torch import nn

from gee_core.errors import InputError


def image_shape(net: nn.Module, in_channels: int | None, image_size: int | None) -> tuple[int, int, int]:
    """(C, H, W) of the images for ``net``: as given, else those that it was built for.

    Raises:
        InputError: a number is neither given nor known.
    """
    sizes: list[int] = []
    for argument, given in (("in_channels", in_channels), ("image_size", image_size)):
        size = getattr(net, "built_with", {}).get(argument) if given is None else given
        if size is None:
            raise InputError(f"{argument}: {type(net).__name__} does not say which it is built for", "give it as an argument")
        sizes.append(size)
    C, H = sizes
    return C, H, H
