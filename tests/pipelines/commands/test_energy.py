"""`gee energy`: a network of one's own, a checkpoint, images of a folder, the prepared ones, or random ones."""

import json
import sys

import pytest
import torch
from PIL import Image

from gee_core.checkpoint import load, save
from gee_core.data.augment import Normalise
from gee_core.data.prepared import load_prepared
from gee_core.evaluation.energy import measure_energy
from gee_core.gene_file import save_genes
from gee_core.model.network import build_network
from gee_core.pretrained.files import pretrained_file
from pipelines import cli
from pipelines.inputs.loading import load_trained, spaced
from tests.recordings import recording
from tests.recordings import save as save_recording

SOURCE = '''
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from gee_core import LIF


class Ones(nn.Sequential):
    """Every pixel of a 4 x 4 image reaches two neurons that fire at a sum of 1.5, and they both reach one output."""

    def __init__(self, num_classes=1, in_channels=1):
        first, last = nn.Conv2d(in_channels, 2, 4, bias=False), nn.Linear(2, num_classes, bias=False)
        nn.init.ones_(first.weight)
        super().__init__(first, neuron.IFNode(v_threshold=1.5), nn.Flatten(), last)


class Folded(nn.Module):
    def __init__(self, T, image_size):
        super().__init__()
        self.T, self.fc, self.lif = T, nn.Linear(image_size**2, 3), LIF(T)

    def forward(self, x):
        return self.lif(self.fc(x.flatten(1)).repeat(self.T, 1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.norm = nn.Linear(4, 4), neuron.LIFNode(), nn.GroupNorm(1, 3)

    def forward(self, x):
        q = self.fc(x)
        return self.norm(self.lif((q @ q.transpose(-2, -1)) @ q))


class Ends(nn.Linear):
    def forward(self, x):
        raise SystemExit(0)


ends = nn.Sequential(Ends(4, 4), neuron.IFNode())
multi = functional.set_step_mode(nn.Sequential(layer.Linear(4, 2), neuron.IFNode()), "m") or nn.Sequential(
    layer.Linear(4, 2, step_mode="m"), neuron.IFNode(step_mode="m")
)
'''


@pytest.fixture
def gee(tmp_path, monkeypatch, main):
    """Runs `gee energy` in a folder with a module of networks, outside of any project; its output and warnings."""
    (tmp_path / "energy_ones.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_COMPILE", "0")
    monkeypatch.delitem(sys.modules, "energy_ones", raising=False)
    monkeypatch.setattr(cli, "find_project", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)

    def run(*arguments: object) -> tuple[str, str]:
        code, *said = main("energy", *arguments)
        assert code == 0
        return said

    return run


def write_images(folder, values):
    folder.mkdir()
    for i, value in enumerate(values):
        Image.new("L", (4, 4), value).save(folder / f"{i}.png")


def test_a_network_of_ones_own_on_images_of_a_folder_is_what_hands_count(gee, tmp_path):
    write_images(tmp_path / "photos", [51, 0])  # sums of 16 · 0.2 = 3.2, and 0
    out, err = gee("energy_ones:Ones", "--images", "photos", "--shape", "1,4,4", "--steps", 3, "--json")
    found = json.loads(out)
    conv, fc = found["layers"]
    assert (conv["kind"], conv["macs"], conv["steps"], conv["binary"]) == ("conv", 32, 3, False)
    assert (fc["kind"], fc["macs"], fc["steps"], fc["binary"], fc["input_rate"]) == ("fc", 20, 3, True, 0.5)
    assert found["energy_mj"] == pytest.approx((4.6 * 32 * 3 + 0.9 * 0.5 * 20 * 3) * 1e-9)
    assert found["spikes_per_image"] == 3
    assert found["neurobench"] == {
        "footprint": 4 * (32 + 20),
        "connection_sparsity": 0.0,
        "activation_sparsity": 0.5,
        "synaptic_operations": {"Effective_MACs": 32 * 3 / 2, "Effective_ACs": 20 * 3 / 2, "Dense": (32 + 20) * 3},
    }
    assert found["spikingjelly"] == {"macs": 0, "synops": 32 * 3 + 30}  # weights of 1 are spikes to it, and accumulate
    assert found["same_by_us"] == {"macs": 96, "synops": 30}
    # bytes · size of the memory; of 128 B, the 32 weights of the convolution, 2.5 · 128 / 8192 pJ a byte (Lemaire et al. 2022)
    size = 3 / 2 * 2.5 / 8192 * 1e-9  # three steps, two images of which one drives no spike
    memory = found["with_memory_mj"]
    assert memory["weights"] == pytest.approx((128 * 128 + 80 * 80) * size)
    assert memory["membranes"] == pytest.approx((2 * 2 * 8 * 8 + 2 * 80 * 40) * size)
    assert memory["spikes"] == pytest.approx((128 * 64 + (8 + 8) * 4000) * size)
    assert memory["operations"] == pytest.approx((32 * (3.1 + 0.1) + (2 + 20) * 0.1) * 3 / 2 * 1e-9)
    assert "2 images of photos, 1 × 4 × 4, values 0 to 1" in found["input"]
    assert err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["energy_ones.py", "photos"]  # no bytecode


@pytest.mark.parametrize(
    ("name", "shape", "counted"),
    [("Folded", "1,3,3", (27, 1)), ("multi", "4", (8, 4))],  # the layer of Folded runs before the image is repeated
)
def test_a_class_that_takes_t_makes_its_steps_itself_and_mode_m_gets_all_at_once(gee, name, shape, counted):
    out, err = gee(f"energy_ones:{name}", "--steps", 4, "--shape", shape, "--n", 5, "--json")
    (fc,) = json.loads(out)["layers"]
    assert (fc["macs"], fc["steps"]) == counted
    assert "random input" in err and "every layer" not in err


def test_the_table_has_every_layer_and_what_is_not_counted_and_warnings_go_elsewhere(gee):
    out, err = gee("energy_ones:Attention", "--shape", "3,4", "--n", 2)
    text = " ".join(out.split())
    assert "energy_ones:Attention, 2 random inputs of 3 × 4" in text
    assert " fires fc fc 48 1 real " in text
    assert "SpikingJelly MACs 120 (ours 48)" in text  # 3·4·4, and 3·3·4 twice for the products
    assert "not counted norm (GroupNorm)" in text
    assert "estimate after Lemaire et al.): operations" in text and "; without GroupNorm" in text
    assert [line.split(":")[1] for line in err.splitlines()] == [" warning", " warning"]
    assert "every layer ran once" in err and "random input" in err


def test_layers_that_no_spike_reaches_are_named_in_a_warning(gee, tmp_path):
    write_images(tmp_path / "photos", [0, 20])  # a sum of 16 · 20/255, below the threshold
    _, err = gee("energy_ones:Ones", "--images", "photos", "--shape", "1,4,4", "--steps", 1)
    assert "gee: warning: 1 of 2 layers get no spikes (3): train the network first, or let" in err


def test_images_for_a_file_of_genes_are_normalised_as_its_card_says(gee, tmp_path):
    write_images(tmp_path / "photos", [51, 204])
    net = build_network("vgg16", 3, 1, 4, n_genes=2, width=1 / 32, v_threshold=0.01)
    card = {"class_names": ["a", "b", "c"], "in_channels": 1, "image_size": 4, "mean": [0.5], "std": [0.1]}
    save_genes("genes.safetensors", net, "fp32", card)
    found = json.loads(gee("genes.safetensors", "--images", "photos", "--json")[0])
    assert found["input"] == "2 images of photos, 1 × 4 × 4, normalised as its file says"
    expected = measure_energy(net, torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4))
    assert found["layers"][0]["input_rate"] == pytest.approx(expected.layers[0].input_rate, abs=1e-6)
    assert found["spikes_per_image"] == expected.spikes_per_image > 0
    save_genes("genes.safetensors", net, "fp32")
    assert "values 0 to 1" in gee("genes.safetensors", "--images", "photos", "--json")[0]


@pytest.fixture
def prepared(digits, tmp_path):
    """The digits as the prepared images of the project."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/prepared").symlink_to(digits)
    return load_prepared(digits)


def test_a_checkpoint_is_measured_as_evaluate_measures_it(gee, prepared, trained, make_params, tmp_path):
    net = load_trained(make_params(), prepared.meta, trained)
    expected = measure_energy(net, prepared.meta.normalise(spaced(prepared.test, 10).images))
    out, err = gee(trained, "--n", 10, "--json")
    found = json.loads(out)
    assert "10 test images" in found["input"] and err == ""
    assert found["energy_mj"] == pytest.approx(expected.energy_mj(4.6, 0.9))
    assert found["energy_with_decoding_mj"] == pytest.approx(expected.energy_with_decoding_mj(4.6, 0.9))
    terms = expected.neurobench()
    assert found["neurobench"].pop("synaptic_operations") == pytest.approx(terms.pop("synaptic_operations"))
    assert found["neurobench"] == pytest.approx(terms)
    assert found["footprint_decoded"] == expected.footprint_decoded > expected.footprint
    assert found["spikingjelly"] == pytest.approx(found["same_by_us"])
    assert gee(trained, "--prepared", "--n", 10, "--json")[0] == out
    text = gee(trained)[0]
    assert "more with building W" in text and "with W built" in text
    write_images(tmp_path / "photos", [0, 51])
    for name, shape, way in ((trained, "1,8,8", "normalised as data/prepared"), ("energy_ones:Ones", "1,4,4", "values 0 to 1")):
        found = json.loads(gee(name, "--images", "photos", "--shape", shape, "--json")[0])
        assert found["input"] == f"2 images of photos, {shape.replace(',', ' × ')}, {way}"


DIGITS = {"class_names": [*map(str, range(10))], "in_channels": 1, "image_size": 8, "mean": [0.1], "std": [0.5]}


def test_prepared_images_for_a_file_of_genes_are_normalised_as_its_card_says(gee, prepared, trained):
    net = load(trained)
    save_genes("other.safetensors", net, "fp32", DIGITS)
    found = json.loads(gee("other.safetensors", "--n", 10, "--json")[0])
    assert found["input"] == "10 test images of scikit-learn digits, 1 × 8 × 8, normalised as its file says"
    expected = measure_energy(net, Normalise((0.1,), (0.5,))(spaced(prepared.test, 10).images))
    assert found["energy_mj"] == pytest.approx(expected.energy_mj())
    assert found["layers"][0]["input_rate"] == pytest.approx(expected.layers[0].input_rate)
    save_genes("letters.safetensors", net, "fp32", DIGITS | {"class_names": list("abcdefghij")})
    save("three.safetensors", build_network("vgg16", 3, 1, 8, n_genes=2, width=1 / 32))
    for name in ("letters", "three"):
        out, err = gee(f"{name}.safetensors", "--n", 2, "--json")
        assert json.loads(out)["input"] == "2 random inputs of 1 × 8 × 8" and "random input" in err
    assert "2 test images" in json.loads(gee("letters.safetensors", "--n", 2, "--prepared", "--json")[0])["input"]


def test_recordings_are_counted_each_as_one_by_spikingjelly_too(gee, tmp_path):
    (tmp_path / "seen").mkdir()
    for i in range(3):
        save_recording(tmp_path / f"seen/{i}.npy", recording(i))
    found = json.loads(gee(pretrained_file("cifarnet.nmnist"), "--images", "seen", "--json")[0])
    assert found["input"].startswith("3 images of seen, 2 × ")
    assert found["spikingjelly"] == pytest.approx(found["same_by_us"]) and found["spikingjelly"]["synops"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("energy_ones:Ones", "--n", 10**6, "--shape", "3,224,224"), "602.1 GB of memory: take --n 1783 or a smaller --shape"),
        (("energy_ones:ends", "--shape", "1,4,4", "--steps", 1), "the code of the network ends the program (SystemExit(0))"),
    ],
)
def test_what_cannot_be_measured_is_one_message(arguments, says, gee, main):
    code, _, err = main("energy", *arguments)
    assert code == 2 and says in err.splitlines()[-1] and err.count("gee: error: ") == 1
