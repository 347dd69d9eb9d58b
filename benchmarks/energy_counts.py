"""One network as Eq. 17, NeuroBench and SpikingJelly count it: the table of docs/reference/measuring.md. No time is measured.

    python -m benchmarks.energy_counts [--json] [--images 200]

Three convolutions with padding, an average pool and a fully connected layer, of LIF neurons with T = 4, on scikit-learn's
digits. Weights are random; 30 % of the second convolution's are 0.

Printed, per image, for each layer: FL·T, fr, and the operations by each rule; then the energy by Eq. 17, the metrics under
NeuroBench's names, and SpikingJelly's two totals.
"""

import argparse
import json
from dataclasses import asdict

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import gee_core
from pipelines.commands.measured_network import spikingjelly_counts

T = 4


def spiking_net(x: Tensor) -> nn.Sequential:
    """The network, its batch norms adapted to images ``x`` (B, 1, 8, 8) and scaled by 2, so that the neurons fire."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(layer.Conv2d(1, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), neuron.LIFNode()),
        *(layer.Conv2d(16, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), neuron.LIFNode()),
        layer.AvgPool2d(2),
        *(layer.Conv2d(32, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), neuron.LIFNode()),
        *(layer.Flatten(), layer.Linear(512, 10)),
    )
    functional.set_step_mode(net, "m")
    norms = [module for module in net if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None
        net.train()(x.repeat(T, 1, 1, 1, 1))
        for norm in norms:
            norm.weight.fill_(2.0)
        W = net[3].get_parameter("weight")
        W[W.abs() < W.abs().quantile(0.3)] = 0
    functional.reset_net(net)
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="how many of the 1797 digits")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    x = torch.tensor(load_digits().images[: arguments.images] / 16, dtype=torch.float32)[:, None]
    n, net = len(x), spiking_net(x)
    activity = gee_core.measure_energy(net, x, steps=T)
    print("layer        FL·T   fr         Eq. 17  NeuroBench  SpikingJelly  dense")
    for count in activity.layers:
        total = count.macs * count.steps
        paper, jelly = (count.input_rate * total, count.synops) if count.binary else (total, total)
        numbers = f"{paper:9,.0f}   {count.effective:9,.0f}     {jelly:9,.0f}  {count.dense:,.0f}"
        print(f"{count.layer:3} {count.kind:4} {total:9,}  {count.input_rate:.3f}  {numbers} {'AC' if count.binary else 'MAC'}")
    energy_uj, neurobench = activity.energy_mj(4.6, 0.9) * 1e3, activity.neurobench()
    print(f"{energy_uj:.3g} µJ", neurobench)
    macs, synops = (total / n for total in spikingjelly_counts(net, [x], T))
    print(f"SpikingJelly: {macs:,.0f} MACs, {synops:,.0f} synaptic operations")
    if arguments.json:
        layers = [asdict(count) for count in activity.layers]
        totals = {"energy_uj": energy_uj, "neurobench": neurobench, "spikingjelly": {"macs": macs, "synops": synops}}
        print(json.dumps({"images": n, "layers": layers, **totals}))


if __name__ == "__main__":
    main()
