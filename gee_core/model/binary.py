"""The binary form of a network of I-LIF neurons: the same function, with 0 and 1 as the only spikes.

A neuron that fires n of D sends n binary spikes, one in each of the first n of the D slots of its step. The layers after it run
once per slot, and their outputs are summed over the slots before batch norm and bias. A network of T steps so runs T·D binary
steps.

Shapes: T steps, B batch, D slots. Slots are folded into the batch: (T*B*D, …), the slots of an image side by side.
"""

from typing import cast

from spikingjelly.activation_based.layer import SpikeCountToBinary, TemporalBinSum
from torch import Tensor, nn

from gee_core.errors import InputError
from gee_core.genome.encoding import decode
from gee_core.model.base import SpikingNetwork
from gee_core.model.layers import BasicBlock, ResidualStream
from gee_core.model.network import TableNetwork
from gee_core.snn.lif import ILIF


class BinaryILIF(ILIF):
    """``ILIF`` whose output are binary spikes in D slots: (T*B, …) currents in, (T*B*D, …) of 0 and 1 out."""

    def forward(self, x: Tensor) -> Tensor:
        """Slot d of D is 1 where the integer that the neuron fires is greater than d."""
        spikes: Tensor = SpikeCountToBinary(self.levels, always_convert=True)(super().forward(x))
        return spikes


def to_binary(net: nn.Module) -> SpikingNetwork:
    """A copy of ``net``, decoded, that computes the same logits with binary spikes, in evaluation mode.

    ``measure_energy`` counts the same spikes and energy on both. The copy is slower: it is the proof that integers are spikes,
    and the form for hardware that sends spikes.

    Args:
        net: a network of ``build_network`` with ``neuron="ilif"``, not an own one.

    Returns:
        The copy: (B, C, H, W) in, outputs (T, B, K), as of ``net``.

    Raises:
        InputError: ``net`` is another network.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, width=0.125, neuron="ilif", levels=4, T=1).eval()
        >>> images = torch.rand(2, 3, 32, 32)
        >>> torch.allclose(net(images), gee_core.to_binary(net)(images), atol=1e-4)
        True
    """
    levels = {module.levels for module in net.modules() if isinstance(module, ILIF)}
    if not isinstance(net, TableNetwork) or len(levels) != 1:
        raise InputError("the network has no I-LIF neurons", 'give one of gee_core.build_network(…, neuron="ilif", levels=D)')
    (D,) = levels
    binary = cast(TableNetwork, decode(net)).eval()
    read_no_spikes: set[nn.Module] = {binary.conv_chain()[0]}
    if isinstance(binary.body, ResidualStream):
        read_no_spikes.add(binary.head[0])
    for parent in list(binary.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ILIF):
                setattr(parent, name, BinaryILIF(child.T, D, child.tau, child.v_threshold, child.detach_reset))
            elif isinstance(child, nn.Conv2d | nn.Linear) and child not in read_no_spikes:
                if child.bias is not None:  # once per slot
                    child.bias.data /= D
                setattr(parent, name, nn.Sequential(child, TemporalBinSum(D, always_convert=True)))
            elif isinstance(parent, BasicBlock) and isinstance(child, nn.Identity):  # a shortcut without weights
                setattr(parent, name, TemporalBinSum(D, always_convert=True))
    return binary
