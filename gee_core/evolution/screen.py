"""The firing rate of a network that is not trained yet, by which candidates are screened.

Shapes: T steps, B batch.
"""

from itertools import islice

import torch
from torch import Tensor, nn

from gee_core.data.augment import Normalise
from gee_core.genome.encoding import decode
from gee_core.hardware import Compute
from gee_core.seeding import private_torch_rng, torch_generator
from gee_core.snn.neurons import is_neuron
from gee_core.training.loop import Images

N_BATCHES = 2


@torch.no_grad()
def untrained_firing_rate(net: nn.Module, images: Images, batch_size: int, normalise: Normalise, compute: Compute) -> float:
    """Spikes per neuron and step of ``net`` on two batches of ``images``, normalised by batch; an output of -1 is a spike too.

    The images are whole and the steps all of ``net``, also where `evolve.sizes` or `T_schedule` train it with less. A copy of
    ``net`` runs, so that its running statistics are left unchanged. The batches are the same in every call; fewer images than
    they need make them smaller.
    """
    counts = torch.zeros(2, dtype=torch.float64, device=compute.device)  # spikes, neurons times steps

    def count(module: nn.Module, args: tuple[Tensor], spikes: Tensor) -> None:
        counts.add_(torch.stack([spikes.count_nonzero().double(), torch.full_like(counts[0], spikes.numel())]))

    copy = decode(net).train()
    for module in copy.modules():
        if is_neuron(module):
            module.register_forward_hook(count)
    half = len(images) // N_BATCHES
    size = min(batch_size, half if half > 1 else len(images))  # batch norm takes no single image of one pixel
    for batch, _ in islice(images.batches(size, torch_generator(0, "screen")), N_BATCHES):
        with compute.autocast(), private_torch_rng(0, compute.device):
            copy(normalise(batch))
    spikes, total = counts.tolist()
    return spikes / total
