"""The trained network is read only where it is the configured one, and every refusal names the remedy."""

from pathlib import Path

import pytest
import torch

from gee_core.checkpoint import load, save, save_tensors
from gee_core.data.images import PackedImages
from gee_core.errors import DivergedError, InputError
from gee_core.gene_file import save_genes
from gee_core.model.wired import architecture_of, wired_network
from pipelines.inputs.loading import load_checkpoint, load_trained, spaced
from pipelines.project.paths import CHECKPOINT

NETWORK = {"name": "resnet18", "width": 1 / 32, "n_genes": 4, "T": 2}


@pytest.fixture
def path(tmp_path, meta, make_params, monkeypatch):
    """The project's checkpoint: a saved network of the section ``NETWORK``."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / CHECKPOINT
    path.parent.mkdir(parents=True)
    save(path, wired_network(make_params(network=NETWORK).network, meta, None, 0))
    return path


def test_the_configured_network_is_read_in_evaluation_mode(path, meta, make_params):
    net = load_trained(make_params(network=NETWORK), meta, path)
    expected = wired_network(make_params(network=NETWORK).network, meta, None, 0).state_dict()
    assert not net.training
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())


def test_a_checkpoint_of_another_network_or_for_other_images_is_refused(path, meta, make_params):
    params = make_params(network=NETWORK)
    for changes, named in (
        ({"name": "resnet19"}, "name is 'resnet18', not 'resnet19'"),
        ({"width": 1 / 16}, "width is 0.03125, not 0.0625"),
        ({"n_genes": None}, "n_genes is 4, not None"),
        ({"T": 4}, "T is 2, not 4"),  # the same tensors: only the settings tell
        ({"block": "post"}, "block is 'pre', not 'post'"),
    ):
        other = params.model_copy(update={"network": params.network.model_copy(update=changes)})
        with pytest.raises(InputError, match=rf"a checkpoint of another network \({named}\): run `dvc repro train`"):
            load_trained(other, meta, path)
    for field, value in (("num_classes", 4), ("in_channels", 3), ("image_size", 16)):
        with pytest.raises(InputError, match=f"{field} is {getattr(meta, field)}, not {value}"):
            load_trained(params, meta.model_copy(update={field: value}), path)
    of_shape = make_params(network=NETWORK | {"init": {"omega_X": 1.0, "beta": 1.0}})
    assert load_trained(of_shape, meta, path).genome.n_genes == 4  # where the wiring started makes no other network


def test_weights_that_are_not_finite_ask_for_a_lower_learning_rate(path, meta, make_params):
    net = wired_network(make_params(network=NETWORK).network, meta, None, 0)
    with torch.no_grad():
        net.genome.O[0, 0] = float("nan")
    for file, remedy in (
        (path, r"lower train\.lr, then `dvc repro train`"),
        (Path("other.safetensors"), "train it again with a l"),
    ):
        save_tensors(file, net.state_dict(), architecture_of(net).model_dump())
        with pytest.raises(DivergedError, match=f"values that are not finite: {remedy}"):
            load_checkpoint(file)


def test_files_that_are_not_the_projects_checkpoint_are_never_to_be_deleted(path, tmp_path):
    other = Path("other.safetensors")
    for lost in (".json", ".safetensors"):
        save(other, load(path))
        other.with_suffix(lost).unlink()
        with pytest.raises(InputError, match=rf"^other\{lost}: not found: check its name: a checkpoint is both files$"):
            load_checkpoint(other)
    save(other, load(path))
    other.write_bytes(other.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"in other\.json: copy it again, or save the network again$"):
        load_checkpoint(other)
    other.with_suffix(".json").unlink()
    save_genes(other, load(path))
    other.write_bytes(other.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"damaged.*: copy it again, or save the network again$"):
        load_checkpoint(other)
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    for place, says in ((path.parent.parent, r"is a folder: name the \.saf"), (tmp_path / "loop.safetensors", "not found")):
        with pytest.raises(InputError, match=says):
            load_checkpoint(place)


def test_a_file_of_genes_of_a_newer_version_asks_for_an_update(path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr("gee_core.gene_file.VERSION", 2)
        save_genes("newer.safetensors", load(path))
    with pytest.raises(InputError, match=r"is of version 2 of its format, .* reads version 1: update gee_core$"):
        load_checkpoint(Path("newer.safetensors"))


def test_some_of_the_images_are_of_all_classes_where_they_are_sorted_by_class():
    images = PackedImages(torch.arange(100).to(torch.uint8).reshape(100, 1, 1, 1), torch.arange(100) // 10)
    assert spaced(images, 10).labels.tolist() == list(range(10))
    assert spaced(images, 1).labels.tolist() == [0]
    assert torch.equal(spaced(images, 1000).images, images.images)
