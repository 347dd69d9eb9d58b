"""The trained network, as the stages after train read it."""

from pathlib import Path

import torch

from gee_core.checkpoint import load_network
from gee_core.config import Params
from gee_core.data.prepared import Meta
from gee_core.evolution.proxy import wired_network
from gee_core.model.network import SpikingNetwork


def load_trained(params: Params, meta: Meta, checkpoint: Path, device: torch.device) -> SpikingNetwork:
    """The network of ``checkpoint``, genes and all, in evaluation mode.

    Raises:
        InputError: the checkpoint is missing, damaged, or another network's.
    """
    net = load_network(checkpoint, wired_network(params.network, meta, None, 0), params.network, meta)
    return net.to(device).eval()
