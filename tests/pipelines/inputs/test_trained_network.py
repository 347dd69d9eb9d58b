"""The trained network is read only where it is the configured one, and every refusal names the remedy."""

import pytest
import torch

from gee_core.checkpoint import save, save_tensors
from gee_core.data.prepared import load_prepared
from gee_core.errors import DivergedError, InputError
from gee_core.model.wired import architecture_of, wired_network
from pipelines.inputs.trained_network import load_configured, load_trained

NETWORK = {"name": "resnet18", "width": 1 / 32, "n_genes": 4, "T": 2}


@pytest.fixture
def meta(digits):
    return load_prepared(digits).meta


@pytest.fixture
def path(tmp_path, meta, make_params):
    """A saved network of the section ``NETWORK``."""
    path = tmp_path / "network.safetensors"
    save(path, wired_network(make_params(network=NETWORK).network, meta, None, 0))
    return path


def refused(path, network, meta) -> str:
    with pytest.raises(InputError) as caught:
        load_configured(path, network, meta)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent) in message
    assert "dvc repro" in message
    return message


def test_the_configured_network_is_read_in_evaluation_mode(path, meta, make_params):
    net = load_trained(make_params(network=NETWORK), meta, path)
    expected = wired_network(make_params(network=NETWORK).network, meta, None, 0).state_dict()
    assert not net.training
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "resnet19"}, "name is 'resnet18', not 'resnet19'"),
        ({"width": 1 / 16}, "width is 0.03125, not 0.0625"),
        ({"n_genes": 5}, "n_genes is 4, not 5"),
        ({"n_genes": None}, "n_genes is 4, not None"),
        ({"T": 4}, "T is 2, not 4"),  # the same tensors: only the settings tell
        ({"v_reset": None}, "v_reset is 0.0, not None"),
        ({"block": "post"}, "block is 'pre', not 'post'"),
        ({"pool": "avg"}, "pool is 'max', not 'avg'"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_network_is_refused_and_the_difference_named(changes, named, path, meta, make_params):
    network = make_params(network=NETWORK).network.model_copy(update=changes)
    message = refused(path, network, meta)
    assert "a checkpoint of another network" in message
    assert named in message


def test_where_the_wiring_started_makes_no_other_network(path, meta, make_params):
    network = make_params(network=NETWORK | {"init": {"omega_X": 1.0, "slope": 1.0}}).network
    assert load_configured(path, network, meta).genome.n_genes == 4


@pytest.mark.parametrize(("field", "value"), [("num_classes", 4), ("in_channels", 3), ("image_size", 16)])
def test_a_checkpoint_for_other_images_is_refused(field, value, path, meta, make_params):
    other = meta.model_copy(update={field: value})
    message = refused(path, make_params(network=NETWORK).network, other)
    assert f"{field} is {getattr(meta, field)}, not {value}" in message


@pytest.mark.parametrize("lost", [".safetensors", ".json"])
def test_a_missing_file_is_made_or_fetched_by_dvc(lost, path, meta, make_params):
    path.with_suffix(lost).unlink()
    message = refused(path, make_params(network=NETWORK).network, meta)
    assert message == f"{path.with_suffix(lost)}: not found: `dvc repro` makes it, `dvc pull` fetches it"


def test_a_damaged_file_is_to_be_deleted(path, meta, make_params):
    path.write_bytes(path.read_bytes()[:-1])
    message = refused(path, make_params(network=NETWORK).network, meta)
    assert message.endswith("its checksum is not the one in network.json: delete both, then `dvc repro`")


def test_weights_that_are_not_finite_ask_for_a_lower_learning_rate(tmp_path, meta, make_params):
    network = make_params(network=NETWORK).network
    net, path = wired_network(network, meta, None, 0), tmp_path / "network.safetensors"
    with torch.no_grad():
        net.genome.O[0, 0] = float("nan")
    save_tensors(path, net.state_dict(), architecture_of(net).model_dump())
    with pytest.raises(DivergedError, match=r"values that are not finite: lower train\.lr, then `dvc repro train`"):
        load_configured(path, network, meta)
