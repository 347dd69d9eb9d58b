"""Networks and inputs that `gee energy` cannot measure."""

import pytest

from tests.bad_inputs.case import Case, Change, cut, remove, write

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


def energy(name: str, run: str, *change: Change, says: str, remedy: str) -> Case:
    return Case(name=name, run=f"gee energy {run}", change=(write("energy_snn.py", SOURCE), *change), says=says, remedy=remedy)


SNN, CHECKPOINT = "energy_snn:Snn", "models/train/network.safetensors"
CASES = [
    energy("no network to measure", "", says="Missing argument", remedy="--help"),
    energy("neither name nor file", "energy", says="'energy': neither MODULE:NETWORK", remedy="name a network as"),
    energy("a module", "energy_snn", says="'energy_snn': neither", remedy="name a network as MODULE:NETWORK"),
    energy("a path for a name", "../x:Y", says="'../x:Y': neither MODULE:NETWORK", remedy="name a network as"),
    energy("no such module", "enrgy_snn:Snn", says="no module enrgy_snn in", remedy="did you mean energy_snn?"),
    energy("no such package", "zzz.qqq:Snn", says="no module zzz in", remedy="check its name"),
    energy("no such submodule", "torch.nnn:Snn", says="no module torch.nnn in", remedy="check its name"),
    energy("no such class", "energy_snn:Snnn", says="the module energy_snn has no Snnn", remedy="did you mean Snn?"),
    energy("a number", "energy_snn:number", says="is of type int, which is no network", remedy="name a module"),
    energy("no neurons", "energy_snn:plain", says="the network has no neurons", remedy="build it with those of spikingjelly"),
    energy(
        "an argument too many", "energy_snn:deep", says="deep() raises TypeError: deep() missing", remedy="no other arguments"
    ),
    energy("nothing returned", "energy_snn:nothing", says="returns a NoneType", remedy="return the network"),
    energy(
        "half a module", "half_snn:X", write("half_snn.py", "x = 1\n("), says="half_snn raises SyntaxError", remedy="fix it"
    ),
    energy(
        "a module that raises", "sad_snn:X", write("sad_snn.py", "\n1 / 0"), says="sad_snn.py, line 2 raises", remedy="fix it"
    ),
    energy(
        "a module that needs another",
        "needy_snn:X",
        write("needy_snn.py", "import no_such_one"),
        says="needy_snn.py, line 1 raises ModuleNotFoundError: No module named 'no_such_one'",
        remedy="fix it",
    ),
    energy("input of another shape", SNN, says="raises RuntimeError on a batch of shape (32, 3, 32, 32)", remedy="steps = T"),
    energy("an infinite network", "energy_snn:infinite --shape 4", says="not finite", remedy="check its weights"),
    energy(
        "a word for a size", f"{SNN} --shape 3,x", says="--shape '3,x': not sizes", remedy="write for instance --shape 3,32"
    ),
    energy("a size of 0", f"{SNN} --shape 0", says="--shape '0': not sizes", remedy="write for instance"),
    energy("sizes beyond memory", f"{SNN} --shape 99999,99999", says="out of memory", remedy="take smaller images"),
    energy(
        "images for no images", f"{SNN} --shape 4 --images images", says="--images: a network for inputs of 4", remedy="1,28,28"
    ),
    energy("no images to measure on", f"{SNN} --images nowhere", says="nowhere: not found", remedy="name image files"),
    energy("a mean of no images", f"{SNN} --mean 0.5 --std 0.5", says="normalise --images", remedy="--images alone"),
    energy("a mean alone", f"{SNN} --images images --mean 0.5", says="normalise --images, both", remedy="give all three"),
    energy("a word for a mean", f"{SNN} --images images --mean x --std 1", says="--mean 'x': not numbers", remedy="0.5,0.5"),
    energy(
        "means of other channels",
        f"{SNN} --shape 3,8,8 --images images --mean 0.5 --std 0.5",
        says="1 numbers for images of 3 × 8 × 8",
        remedy="give 3 each",
    ),
    energy("two lengths", f"{SNN} --images images --mean 0,0 --std 1", says="2 and 1 numbers", remedy="one per channel"),
    energy("a deviation of 0", f"{SNN} --images images --mean 0 --std 0", says="not numbers above 0", remedy="--std 0.5"),
    energy("two shapes", f"{SNN} --prepared --shape 4", says="--prepared: has images", remedy="leave out --images"),
    energy("nothing prepared", f"{SNN} --prepared", remove("data/prepared"), says="data/prepared", remedy="dvc repro"),
    energy("no steps", f"{SNN} --steps 0", says="Invalid value for '--steps'", remedy="--help"),
    energy("an energy below 0", f"{SNN} --e-mac -1", says="Invalid value for '--e-mac'", remedy="--help"),
    energy("an energy that is none", f"{SNN} --e-ac nan", says="Invalid value for '--e-ac'", remedy="--help"),
    energy("no checkpoint to measure", "none.safetensors", says="none.safetensors: not found", remedy="check its name"),
    energy(
        "steps for a checkpoint",
        f"{CHECKPOINT} --steps 4",
        says="--steps 4: models/train/network.safetensors makes its 2 steps itself",
        remedy="leave it out",
    ),
    energy(
        "channels that a checkpoint does not take",
        f"{CHECKPOINT} --shape 3,8,8",
        says="takes images of 1 channel, such as 1,8,8, and none of 3,8,8",
        remedy="leave out --shape",
    ),
    energy(
        "sizes of no image",
        f"{CHECKPOINT} --shape 8",
        says="takes images of 1 channel, such as 1,8,8, and none of 8",
        remedy="leave out --shape",
    ),
    energy(
        "half a checkpoint",
        CHECKPOINT,
        cut(CHECKPOINT),
        says="network.safetensors: damaged",
        remedy="delete both, then `dvc repro`",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_cannot_be_measured_is_refused(case, refuses):
    refuses(case)
