"""Networks in one file of few bytes: what comes back is what was rounded, and anything else is refused by name."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from gee_core.checkpoint import load, load_genes, save
from gee_core.errors import DivergedError, InputError
from gee_core.gene_file import GENE_FORMATS, GENES_ENTRY, read_card, read_header, save_genes
from gee_core.genome.encoding import encode
from gee_core.genome.quantise import BITS, dequantise, quantise, scaled_dim
from gee_core.model.network import build_network
from gee_core.model.wired import architecture_of
from gee_core.storage import tensor_file
from tests.gee_core.lively import awake

CARD = {"class_names": ["a", "b", "é"], "mean": [0.25]}
ENCODINGS = pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
EVERY_FORMAT = pytest.mark.parametrize("format", GENE_FORMATS)


def network(n_genes=4, name="cifarnet", **settings):
    net = build_network(name, 3, 3, 16, n_genes, 1 / 16, T=2, **settings)
    return awake(net, torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "genes.safetensors"
    save_genes(path, network(), "int4", CARD)
    return path


def expected(name, tensor, format):
    """``tensor`` after a round trip, worked out without the file."""
    dim = scaled_dim(name, tensor)
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(tensor)
    if format == "fp32":
        return tensor
    if dim is None or format == "bf16":
        return tensor.bfloat16().float()
    return dequantise(*quantise(tensor, BITS[format], dim), dim)


@ENCODINGS
@EVERY_FORMAT
def test_what_comes_back_is_what_went_in_rounded_to_the_format(n_genes, format, tmp_path):
    net = network(n_genes)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_genes(tmp_path / "genes.safetensors", net, format)
    back = load(tmp_path / "genes.safetensors")
    state = back.state_dict()
    assert list(state) == list(before)
    for name, tensor in before.items():
        assert torch.equal(net.state_dict()[name], tensor)
        assert torch.equal(state[name], expected(name, tensor, format)), name
        assert state[name].dtype is tensor.dtype
    assert architecture_of(back) == architecture_of(net)
    save_genes(tmp_path / "again", net, format)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "genes.safetensors").read_bytes()
    assert back.training and all(parameter.requires_grad for parameter in back.parameters())
    assert {path.name for path in tmp_path.iterdir()} == {"again", "genes.safetensors"}


def test_each_number_takes_the_bits_of_its_format(tmp_path):
    net, sizes = network(None), {}
    for format in GENE_FORMATS:
        save_genes(tmp_path / f"{format}.safetensors", net, format)
        sizes[format] = sum(t.numel() * t.element_size() for t in load_file(tmp_path / f"{format}.safetensors").values())
    matrices = sum(t.numel() for t in net.state_dict().values() if t.ndim > 1)
    vectors = sum(t.numel() for t in net.state_dict().values() if t.ndim == 1)
    scales = sum(len(t) for t in net.state_dict().values() if t.ndim > 1)
    assert sizes == {
        "fp32": 4 * (matrices + vectors),
        "bf16": 2 * (matrices + vectors),
        "int8": matrices + 4 * scales + 2 * vectors,
        "int4": matrices / 2 + 4 * scales + 2 * vectors,
    }


def test_a_file_of_genes_and_a_checkpoint_are_told_apart_by_their_content(path, tmp_path):
    checkpoint = tmp_path / "network.safetensors"
    save(checkpoint, network())
    path.with_suffix(".json").write_text("{}")  # of something else
    assert read_header(path).format == "int4" and read_header(checkpoint) is None
    assert read_card(path) == CARD
    checkpoint.write_bytes(b"damaged")
    assert read_header(checkpoint) is None
    with pytest.raises(InputError, match=r"none: not found: name a \.safetensors file that gee_core\.save or"):
        read_card(tmp_path / "none")
    with pytest.raises(InputError, match=r"not a file of gee_core\.save_genes"):
        save(checkpoint, network())
        read_card(checkpoint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int2",), "format must be one of fp32, bf16, int8, int4, got 'int2'"),
        (("int8", {"a": float("nan")}), "JSON"),
        (("int8", {"a": "\ud800"}), "Invalid JSON"),  # pydantic reads less than json does
    ],
)
def test_what_cannot_be_written_is_refused_before_the_file_is_touched(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_genes(tmp_path / "genes.safetensors", network(), *arguments)
    with pytest.raises(ValueError, match="was not made by build_network"):
        save_genes(tmp_path / "genes.safetensors", nn.Linear(2, 2))
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_finite_is_not_written_and_the_old_file_stays(path):
    net, before = network(), path.read_bytes()
    with torch.no_grad():
        net.genome.O[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"genome\.O holds values that are not finite"):
        save_genes(path, net, "int8")
    assert path.read_bytes() == before


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
TERABYTES = struct.pack("<Q", len(HEADER)) + HEADER
DAMAGE = {
    "a tensor of 4 terabytes": lambda d: TERABYTES,
    "a list for a header": lambda d: to_bytes({"a": torch.ones(1)}, {GENES_ENTRY: "[]"}),
    "a deep header": lambda d: to_bytes({"a": torch.ones(1)}, {GENES_ENTRY: "[" * 100_000}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused(damage, path):
    content = damage(path.read_bytes())
    path.write_bytes(content)
    if content == TERABYTES:
        os.truncate(path, len(content) + 4 * 10**12)  # which a file system keeps as a hole
    assert refused(path).startswith("damaged")


def crafted(path: Path, change) -> None:
    """Change the header's values and the tensors, and give them a checksum that fits."""
    stored = load_file(path)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    values = json.loads(header["__metadata__"][GENES_ENTRY])
    del values["sha256"]
    change(values, stored)
    values["sha256"] = tensor_file.checksum(values, stored)
    path.write_bytes(to_bytes(stored, {GENES_ENTRY: json.dumps(values)}))


X = "body.0.conv.parametrizations.weight.original"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, t: v.update(version=2), "is of version 2 of its format, and this gee_core reads version 1"),
        (lambda v, t: v.pop("version"), "damaged (lacks version)"),
        (lambda v, t: v["architecture"].update(num_classes=2**31 - 1), "does not fit the network ("),
        (lambda v, t: v["architecture"]["network"].update(name="networks.none:None"), "is of your own network networks.none"),
        (lambda v, t: t.pop(f"{X}.scale"), f"does not fit the network ('{X}.scale')"),
        (lambda v, t: t.update({X: t[X][:-1].clone()}), "does not fit the network ("),
        (lambda v, t: t["genome.O.scale"].fill_(float("inf")), "genome.O holds values that are not finite"),
        (lambda v, t: t["stem.norm_lif.norm.running_var"].neg_(), "stem.norm_lif.norm.running_var holds negative variances"),
    ],
    ids=range(8),
)
def test_a_header_and_tensors_that_fit_no_network_are_refused(change, message, path):
    crafted(path, change)
    assert refused(path).startswith(message)


class Convolutions(nn.Module):
    """A module that ``build_network`` did not make."""

    def __init__(self, classes=3):
        super().__init__()
        self.stem, self.second, self.third = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 8, 3, bias=False)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.norm(self.third(self.second(self.stem(x)).relu()).relu()).mean((2, 3)))


def test_the_checksum_is_of_the_names_types_and_shapes_of_the_tensors_too():
    x = torch.arange(4, dtype=torch.float32)
    all_stored = {"a": x}, {"b": x}, {"a": x.view(2, 2)}, {"a": x.view(torch.int32)}
    assert len({tensor_file.checksum({}, stored) for stored in all_stored}) == 4


def test_a_second_parametrization_of_an_encoded_convolution_is_not_saved(tmp_path):
    net = encode(Convolutions(), 5, example=torch.zeros(1, 3, 12, 12))
    nn.utils.parametrize.register_parametrization(net.second, "weight", nn.Tanh())
    with pytest.raises(ValueError, match="the weight of second has a parametrization after its genes"):
        save_genes(tmp_path / "module.safetensors", net)


@EVERY_FORMAT
def test_an_encoded_module_of_any_code_comes_back_in_a_fresh_one_rounded(format, tmp_path):
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    net, path = encode(Convolutions(), 5, example=x), tmp_path / "genes.safetensors"
    net(x)  # moves the statistics of its batch norm
    net.eval()
    save_genes(path, net, format, {"by": "hand"})
    fresh = Convolutions()
    back = load_genes(path, fresh).eval()
    assert read_card(path) == {"by": "hand"} and not hasattr(fresh, "genome")
    for name, tensor in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], expected(name, tensor, format)), name
    if format == "fp32":
        assert torch.equal(back(x), net(x))


def test_a_file_of_another_module_is_refused_by_the_name_that_does_not_fit(path, tmp_path):
    x, other = torch.zeros(1, 3, 12, 12), tmp_path / "module.safetensors"
    save_genes(other, encode(Convolutions(), 4, example=x))
    more, fewer = Convolutions(), Convolutions()
    more.extra, fewer.norm = nn.BatchNorm2d(8), nn.Identity()
    for net, says in (
        (nn.Linear(2, 2), "Linear has no attribute `stem`"),
        (more, "Missing key.*extra.weight"),
        (fewer, "Unexpected key.*norm.bias"),
        (Convolutions(5), "size mismatch for head.weight"),
        (encode(Convolutions(), 4, example=x), "is no parameter"),
    ):
        with pytest.raises(InputError, match=f"does not fit this module.*{says}.*make the module by the code that made"):
            load_genes(other, net)
    with pytest.raises(InputError, match=r"module that build_network did not make: gee_core\.load_genes fills a fresh one"):
        load(other)
    with pytest.raises(InputError, match=r"holds a network of build_network: read it with gee_core\.load"):
        load_genes(path, Convolutions())
    with pytest.raises(ValueError, match="Convolutions was not made by build_network: save its state_dict"):
        save_genes(tmp_path / "plain.safetensors", Convolutions())
