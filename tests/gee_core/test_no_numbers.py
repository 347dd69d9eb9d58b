"""Networks on the device `meta`, whose tensors have shapes and no numbers."""

import pytest
import torch

import gee_core

IMAGES = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    "work",
    [
        lambda net, path: gee_core.save(path, net),
        lambda net, path: gee_core.save_genes(path, net),
        lambda net, path: gee_core.measure_energy(net, IMAGES.to("meta")),
        lambda net, path: gee_core.to_onnx(net),
        lambda net, path: gee_core.to_nir(net),
        lambda net, path: gee_core.compress(plain := gee_core.decode(net), 2, convs=plain.conv_chain()),
    ],
    ids=["save", "save_genes", "measure_energy", "to_onnx", "to_nir", "compress"],
)
def test_a_network_without_numbers_is_refused_where_they_are_needed(work, tmp_path):
    net = gee_core.build_network("cifarnet", 5, image_size=8, n_genes=2, width=1 / 16).to("meta")
    with pytest.raises(gee_core.InputError, match="has no numbers: it lies on the device meta: load some with load_state_dict"):
        work(net, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_network_is_encoded_without_numbers_and_takes_those_of_another():
    net = gee_core.build_network("cifarnet", 5, image_size=8, width=1 / 16).eval()
    encoded = gee_core.encode(net, 2, convs=net.conv_chain())
    with torch.device("meta"):
        empty = gee_core.build_network("cifarnet", 5, image_size=8, width=1 / 16).eval()
    empty = gee_core.encode(empty, 2, convs=empty.conv_chain())
    empty.load_state_dict(encoded.state_dict(), assign=True)
    assert torch.equal(empty(IMAGES), encoded(IMAGES))
