"""Every network that comes with the package: its file, its card, and what it answers."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms.functional import pil_to_tensor

from gee_core.errors import ExportError, InputError
from gee_core.export.to_nir import to_nir
from gee_core.model.network import count_parameters
from gee_core.pretrained import files
from gee_core.pretrained.files import list_pretrained, pretrained_card, pretrained_file
from gee_core.pretrained.shipped import classify, load_pretrained, transforms
from pipelines.commands.prediction import open_model, predict
from tests.project_copy import ROOT

RECORDED = Path(__file__).with_name("outputs.json")
"""Logits of ``inputs`` by the checksum of a file, from when it was shipped."""


EACH = pytest.mark.parametrize("name", list_pretrained())


def inputs(card) -> torch.Tensor:
    """Blots, which are like no images, and counts of events."""
    generator = torch.Generator().manual_seed(0)
    shape = (6, card.events.frames) if card.events else (6,)
    coarse = torch.randint(0, 256, (*shape, card.in_channels, 4, 4), generator=generator).flatten(0, -4).float()
    fine = torch.nn.functional.interpolate(coarse, (card.image_size,) * 2, mode="bilinear").unflatten(0, shape)
    return fine // 32 if card.events else fine.round().to(torch.uint8)


def logits(net) -> torch.Tensor:
    with torch.no_grad():
        return net(transforms(net.card)(inputs(net.card))).mean(0)


@EACH
def test_a_network_answers_as_it_did_when_it_was_shipped(name):
    net, file = load_pretrained(name), pretrained_file(name)
    assert not net.training and net.genome.n_genes == net.card.n_genes
    recorded = json.loads(RECORDED.read_text())[file.stem]
    torch.testing.assert_close(logits(net), torch.tensor(recorded), rtol=0, atol=1e-3)


@EACH
def test_onnx_runtime_answers_as_torch_with_the_matrices_in_the_file_of_genes(name):
    net, graph = load_pretrained(name), pretrained_file(name).with_suffix(".onnx")
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    x = transforms(net.card)(inputs(net.card))
    (found,) = session.run(None, {"images": (x if x.ndim == 4 else x.transpose(0, 1)).contiguous().numpy()})
    np.testing.assert_array_equal(found.argmax(1), logits(net).argmax(1).numpy())
    assert graph.stat().st_size < pretrained_file(name).stat().st_size


@EACH
def test_a_card_says_who_trained_the_network_on_what_and_how_well_it_does(name):
    card, net = pretrained_card(name), load_pretrained(name)
    assert (card.name, card.parameters) == (name, count_parameters(net))
    assert card.standard_error == pytest.approx((card.accuracy * (1 - card.accuracy) / card.test_images) ** 0.5, abs=1e-4)
    assert card.command.startswith("gee ") and card.hours > 0 and card.data_licence
    row = f"| `{name}` | {100 * card.accuracy:.1f} ± {100 * card.standard_error:.1f} |"
    sizes = f" {card.parameters:,} | {pretrained_file(name).stat().st_size / 1000:.0f} | {card.energy_uj:.3g} |"
    assert row + sizes in (ROOT / "docs/pretrained.md").read_text()
    assert name != "cifarnet.cifar10" or f"CIFAR-10 ({100 * card.accuracy:.1f} %)" in (ROOT / "README.md").read_text()


@EACH
def test_a_network_whose_neurons_fire_integers_has_no_nir_graph(name):
    card = pretrained_card(name)
    with nullcontext() if files.has_nir_graph(name) else pytest.raises(ExportError, match="no neurons that fire integers"):
        to_nir(load_pretrained(name), card.in_channels, card.image_size)


def test_all_of_them_take_three_megabytes():
    sizes = sorted(path.stat().st_size for path in files.FOLDER.glob("*.safetensors"))
    assert sum(sizes) <= 3e6
    assert f"int8 genes of {sizes[0] / 1e6:.1f} to {sizes[-1] / 1e6:.1f} MB" in (ROOT / "README.md").read_text()
    assert len(list(files.FOLDER.glob("*.onnx"))) == len(list_pretrained()) >= 6


def test_an_unknown_name_and_a_changed_byte_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no trained network is called 'cifarnet.digit': did you mean cifarnet.digits\?"):
        load_pretrained("cifarnet.digit")
    for name in ("vgg", None):
        with pytest.raises(InputError, match=rf"called {name!r}: choose one of .*cifarnet.digits"):
            load_pretrained(name)
    content = bytearray(pretrained_file("cifarnet.digits").read_bytes())
    content[-1] ^= 1
    (tmp_path / pretrained_file("cifarnet.digits").name).write_bytes(content)
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"damaged, its checksum is not the one in its name: install GEE again"):
        load_pretrained("cifarnet.digits")


def test_images_of_any_size_are_cut_square_and_those_of_other_channels_refused():
    card = pretrained_card("cifarnet.digits")
    wide = torch.zeros(2, 1, 8, 12, dtype=torch.uint8)
    wide[..., 2:10] = inputs(card)[:2]
    torch.testing.assert_close(transforms(card)(wide), transforms(card)(inputs(card)[:2]))
    assert transforms(card)(torch.zeros(1, 1, 100, 70, dtype=torch.uint8)).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\) with 1 channels, got shape \(2, 3, 8, 8\)"):
        transforms(card)(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("value", [torch.nan, -1.0, 0.5, 1e30])
def test_recordings_that_are_no_counts_of_events_are_refused(value):
    net = next(net for net in map(load_pretrained, list_pretrained()) if net.card.events)
    counts = inputs(net.card)[:1]
    assert classify(counts, net) == classify(counts.to(torch.uint8), net) != classify(counts > 0, net)
    counts[0, 0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"recordings of torch.float32 with .*: give counts of events: whole numbers from 0"):
        classify(counts, net)


def test_a_range_or_values_that_are_not_finite_are_refused():
    x = torch.zeros(1, 1, 8, 8)
    for images, value_range in ((x, (float("nan"), 1)), (x, (1, 0)), (x, (0, float("inf"))), (x * torch.nan, (0, 1))):
        with pytest.raises(InputError, match=r"^value_range = "):
            classify(images, "cifarnet.digits", value_range)


def test_photographs_get_one_answer_as_files_images_tensors_and_by_gee_predict(tmp_path):
    net, files = load_pretrained("cifarnet.photographs"), [tmp_path / f"{i}.png" for i in range(6)]
    boxes = (0, 0, 640, 427), (100, 50, 300, 250), (200, 100, 264, 164)
    pictures = [Image.fromarray(image).crop(box) for image in load_sample_images().images for box in boxes]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    x = transforms(net.card)(pictures)
    assert torch.equal(transforms(net.card)(list(map(str, files))), x) and len(x.unique(dim=0)) == 6
    for picture, expected in zip(pictures, x, strict=True):
        tensor = pil_to_tensor(picture)[None]
        for same, known in ((tensor, None), (tensor.numpy(), None), (tensor.float(), (0, 255)), (tensor / 255, (0, 1))):
            assert torch.equal(transforms(net.card, known)(same)[0], expected)
        for unknown, said in ((tensor.float(), None), (tensor / 255, None), (tensor.float(), (0, 1))):
            with pytest.raises(
                InputError, match=r"value_range = .*, and images of torch.float32 .*: say the range of their kind"
            ):
                classify(unknown, net, said)
    answers = predict(Path(), files, open_model(pretrained_file(net.card.name).with_suffix(".onnx")))
    for (name, p), answer in zip(classify(files, net.card.name), answers, strict=True):
        assert answer.top == [(name, pytest.approx(p, abs=1e-4))]
    with pytest.raises(InputError, match=r"none\.jpg: not found: put it back or leave it out"):
        classify("none.jpg", net)
