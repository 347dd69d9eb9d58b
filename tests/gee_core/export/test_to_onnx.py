"""The exported network against torch, by ONNX Runtime."""

import copy
import functools
import logging
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gee_core.errors import ExportError, InputError
from gee_core.export.to_onnx import to_onnx
from gee_core.genome.encoding import genome_of
from gee_core.model.network import SpikingNetwork, build_network
from gee_core.snn.lif import LIF
from tests.gee_core.lively import awake

NAMES = pytest.mark.parametrize("name", ["resnet19", "cifarnet", "vgg16"])
SLOW = pytest.mark.slow
NETWORKS = pytest.mark.parametrize(
    ("name", "n_genes"),
    [
        ("resnet19", 4),
        ("cifarnet", 4),
        ("vgg16", 4),
        pytest.param("vgg16", None, marks=SLOW),  # an export takes seconds; genes are decoded before it
        pytest.param("resnet19", None, marks=SLOW),
        pytest.param("cifarnet", None, marks=SLOW),
    ],
)
OPSET = 18


def images(n, seed=1):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@functools.cache
def lively(name, n_genes, **settings) -> SpikingNetwork:
    """A network whose neurons fire, though not all of them."""
    net = build_network(name, 5, 3, 8, n_genes, 1 / 32, T=2, **settings)
    if len(net.head) > 1:
        net.head[0].weight.data.mul_(10)  # the hidden neurons see averages and would stay silent
    return awake(net, images(16))


@functools.cache
def exported(name, n_genes, **settings) -> bytes:
    return to_onnx(lively(name, n_genes, **settings), 3, 8, OPSET)


def run(model: bytes, x) -> torch.Tensor:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


@NETWORKS
def test_onnx_runtime_answers_as_torch_does_for_batches_of_any_size(name, n_genes):
    net = lively(name, n_genes)
    for n in (1, 3, 7):
        with torch.no_grad():
            o_TBK = net(images(n, seed=n))
        torch.testing.assert_close(run(exported(name, n_genes), images(n, seed=n)), o_TBK.mean(0), rtol=1e-4, atol=1e-4)
    assert (o_TBK[1:] - o_TBK[:-1]).abs().max() > 1e-3  # the steps differ, and so do the images
    assert (o_TBK[:, 0] - o_TBK[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "lif",
    [
        {"v_reset": None, "tau": 1.5},
        {"decay_input": False, "tau": 1.7, "v_threshold": 0.4},
        pytest.param({"v_reset": None, "decay_input": False, "v_threshold": 0.8, "surrogate_name": "atan"}, marks=SLOW),
    ],
    ids=["soft reset", "no decay of the input", "neither and another surrogate"],
)
def test_every_kind_of_neuron_is_exported(lif):
    check_outputs("vgg16", **lif)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("resnet19", {"block": "post"}, marks=SLOW),
        pytest.param("resnet34", {"block": "pre"}, marks=SLOW),
        ("vgg16", {"pool": "avg"}),
    ],
)
def test_every_form_of_the_blocks_and_pools_is_exported(name, settings):
    check_outputs(name, **settings)


def check_outputs(name, **settings):
    x = images(3)
    with torch.no_grad():
        expected = lively(name, 4, **settings)(x).mean(0)
    torch.testing.assert_close(run(exported(name, 4, **settings), x), expected, rtol=1e-4, atol=1e-4)


@NAMES
def test_nothing_of_the_machine_or_the_exporter_is_in_the_bytes(name):
    model = exported(name, 4)
    home = Path(__file__).resolve().parents[3]
    for trace in (str(home), str(Path(torch.__file__).parent), ".py", "site-packages", "stack_trace", "pkg.torch"):
        assert trace.encode() not in model, trace
    assert not onnx.load_from_string(model).metadata_props


def test_the_same_network_gives_the_same_bytes_also_in_training_and_stays_as_it_was():
    net = copy.deepcopy(lively("vgg16", 4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert to_onnx(net, 3, 8, OPSET) == exported("vgg16", 4)
    assert net.training
    assert genome_of(net) is not None
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


@NAMES
def test_the_model_has_one_input_and_one_output_of_named_sizes_and_standard_operators_alone(name):
    model = onnx.load_from_string(exported(name, 4))
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert sizes == {"images": ["batch", 3, 8, 8], "logits": ["batch", 5]}
    assert {(o.domain, o.version) for o in model.opset_import} == {("", OPSET)}
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


def test_without_sizes_they_are_those_that_the_network_was_built_for():
    assert to_onnx(lively("vgg16", 4), opset=OPSET) == exported("vgg16", 4)
    with pytest.raises(InputError, match="in_channels: Sequential does not say which it is built for: give it as an argument"):
        to_onnx(nn.Sequential(nn.Conv2d(3, 4, 3)), image_size=8)
    with pytest.raises(InputError, match="image_size: Sequential does not say"):
        to_onnx(nn.Sequential(nn.Conv2d(3, 4, 3)), 3)


def test_an_output_without_steps_is_the_logits_and_one_of_another_form_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    torch.testing.assert_close(run(to_onnx(net, 3, 8), images(3)), net(images(3)).detach(), rtol=0, atol=1e-5)
    with pytest.raises(ExportError, match=r"^Sequential answers one image with \(1, 4, 4, 4\): its output must be \(T, B, K\)"):
        to_onnx(net[:2], 3, 8)
    images_first = nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.Unflatten(1, (2, 5)))
    with pytest.raises(ExportError, match=r"answers one image with \(1, 2, 5\)"):
        to_onnx(images_first, 3, 8)
    with pytest.raises(ExportError, match=r"raises RuntimeError on images of shape \(1, 3, 8, 8\): .*register_network$"):
        to_onnx(nn.Conv3d(3, 4, 3), 3, 8)


def test_neurons_with_a_hook_or_a_method_of_their_own_are_exported_as_they_are():
    class Inverted(LIF):
        def forward(self, x):
            return 1.0 - super().forward(x)

    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 9), LIF(1), nn.Linear(9, 8), Inverted(1), nn.Linear(8, 5))
    net[2].register_forward_hook(lambda module, args, spikes: 2.0 * spikes)
    torch.testing.assert_close(run(to_onnx(net, 3, 8), images(3)), net(images(3)).detach(), rtol=0, atol=1e-5)


def test_weights_that_are_not_finite_are_refused():
    net = copy.deepcopy(lively("vgg16", 4))
    net.body[0].conv.parametrizations.weight.original.data[0, 0, 0] = torch.nan
    with pytest.raises(ExportError, match=r"^body\.0\.conv has weights that are not finite$"):
        to_onnx(net, 3, 8)


def test_what_torch_logs_about_an_export_is_not_shown(monkeypatch):
    log, shown = logging.getLogger("torch._subclasses.fake_tensor"), []

    def gives_up(*args, **settings):
        log.error("a page of stack traces")
        raise RuntimeError("no way")

    monkeypatch.setattr(torch.onnx, "export", gives_up)
    monkeypatch.setattr(log, "handle", shown.append)
    with pytest.raises(ExportError, match="no way"):
        to_onnx(lively("vgg16", 4), 3, 8)
    assert not shown
    log.error("later")
    assert len(shown) == 1


def test_genes_are_decoded_so_that_the_file_holds_plain_weights():
    net = lively("vgg16", 4)
    shapes = {tuple(tensor.dims) for tensor in onnx.load_from_string(exported("vgg16", 4)).graph.initializer}
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        assert tuple(conv.weight.shape) in shapes
    genome = genome_of(net)
    assert not {tuple(X.shape) for X in [genome.O, *genome.encodings()]} & shapes
