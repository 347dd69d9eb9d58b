"""Networks and inputs that `gee energy` cannot measure."""

import pytest

from tests.bad_inputs.case import Case, Change, cut, remove, row, write

SOURCE = """
from spikingjelly.activation_based import neuron
from torch import nn

number, plain = 3, nn.Linear(4, 2)
infinite = nn.Sequential(nn.Linear(4, 2), neuron.IFNode(), nn.Linear(2, 2))
nn.init.constant_(infinite[2].weight, float("inf"))

class Snn(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 2), neuron.IFNode())

def deep(depth): ...
def nothing(): ...
"""


def energy(run: str, says: str, remedy: str, *change: Change) -> Case:
    return row(f"gee energy {run}", says, remedy, write("energy_snn.py", SOURCE), *change)


SNN, CHECKPOINT = "energy_snn:Snn", "models/train/network.safetensors"
CASES = [
    energy("energy", "'energy': neither MODULE:NETWORK", "name a network as"),
    energy("enrgy_snn:Snn", "no module enrgy_snn in", "did you mean energy_snn?"),
    energy("zzz.qqq:Snn", "no module zzz in", "check its name"),
    energy("energy_snn:Snnn", "the module energy_snn has no Snnn", "did you mean Snn?"),
    energy("energy_snn:number", "is of type int, which is no network", "name a module"),
    energy("energy_snn:plain", "the network has no neurons", "build it with those of spikingjelly"),
    energy("energy_snn:deep", "deep() raises TypeError: deep() missing", "no other arguments"),
    energy("energy_snn:nothing", "returns a NoneType", "return the network"),
    energy("half_snn:X", "half_snn raises SyntaxError", "fix it", write("half_snn.py", "x = 1\n(")),
    energy("sad_snn:X", "sad_snn.py, line 2 raises", "fix it", write("sad_snn.py", "\n1 / 0")),
    energy(
        "needy_snn:X",
        "needy_snn.py, line 1 raises ModuleNotFoundError: No module named 'no_such_one'",
        "fix it",
        write("needy_snn.py", "import no_such_one"),
    ),
    energy(SNN, "raises RuntimeError on a batch of shape (32, 3, 32, 32)", "steps = T"),
    energy("energy_snn:infinite --shape 4", "not finite", "check its weights"),
    energy(f"{SNN} --shape 3,x", "--shape '3,x': not sizes", "write for instance --shape 3,32"),
    energy(f"{SNN} --shape 99999,99999", "out of memory", "take smaller images"),
    energy(f"{SNN} --shape 4 --images images", "--images: a network for inputs of 4", "1,28,28"),
    energy(f"{SNN} --images nowhere", "nowhere: not found", "name image files"),
    energy(f"{SNN} --mean 0.5 --std 0.5", "normalise --images", "--images alone"),
    energy(f"{SNN} --shape 3,8,8 --images images --mean 0.5 --std 0.5", "1 numbers for images of 3 × 8 × 8", "give 3 each"),
    energy(f"{SNN} --images images --mean 0 --std 0", "not numbers above 0", "--std 0.5"),
    energy(f"{SNN} --prepared --shape 4", "--prepared: has images", "leave out --images"),
    energy(f"{SNN} --prepared", "data/prepared", "dvc repro", remove("data/prepared")),
    energy("none.safetensors", "none.safetensors: not found", "check its name"),
    energy(f"{CHECKPOINT} --steps 4", "--steps 4: models/train/network.safetensors makes its 2 steps itself", "leave it out"),
    energy(f"{CHECKPOINT} --shape 3,8,8", "takes images of 1 × 8 × 8 or another size", "leave out --shape"),
    energy(CHECKPOINT, "network.safetensors: damaged", "delete both, then `dvc repro`", cut(CHECKPOINT)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_cannot_be_measured_is_refused(case, refuses):
    refuses(case)
