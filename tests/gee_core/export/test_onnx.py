"""The exported network against torch, by ONNX Runtime: with weights, with genes, and of a user's own networks.

An export takes seconds: one is in the quick suite, which several tests share.
"""

import copy
import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

import gee_core
from gee_core.checkpoint import load
from gee_core.errors import ExportError, InputError
from gee_core.export.onnx_genes import with_genes
from gee_core.export.to_onnx import neurons_in_onnx, to_onnx
from gee_core.gene_file import save_genes
from gee_core.genome.encoding import genome_of
from gee_core.model.base import SpikingNetwork
from gee_core.model.network import build_network
from gee_core.snn.lif import ILIF, LIF
from tests.gee_core import own_networks
from tests.gee_core.lively import awake

OPSET = 18
SLOW = pytest.mark.slow


def images(n, seed=1):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@functools.cache
def lively(name, n_genes, **settings) -> SpikingNetwork:
    """A network whose neurons fire, though not all of them; a CIFARNet with the numbers of a file of genes in int8."""
    net = build_network(name, 5, 3, 8, n_genes, 1 / 32, T=2, **settings)
    if len(net.head) > 1:
        net.head[0].weight.data.mul_(10)  # the hidden neurons see averages and would stay silent
    net = awake(net, images(16))
    return from_file(net, "int8") if name == "cifarnet" else net


def from_file(net, format) -> SpikingNetwork:
    with TemporaryDirectory() as folder:
        save_genes(f"{folder}/genes.safetensors", net, format)
        return load(f"{folder}/genes.safetensors").eval()


@functools.cache
def exported(name, n_genes, **settings) -> bytes:
    return to_onnx(lively(name, n_genes, **settings), 3, 8, OPSET)


def session(model: bytes, optimised=None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: bytes, x) -> torch.Tensor:
    return torch.from_numpy(session(model).run(["logits"], {"images": x.numpy()})[0])


@pytest.mark.parametrize(("T", "decay_input"), [(3, True), (3, False), (1, False), (1, True)])
def test_neurons_in_onnx_fire_as_those_of_torch_also_at_the_threshold(T, decay_input):
    x = torch.randn(T * 20, generator=torch.Generator().manual_seed(0)) * 2
    x[:4] = torch.tensor([0.5, 1.0, np.nextafter(np.float32(0.5), np.float32(0)), np.nextafter(np.float32(1), np.float32(0))])
    expected = LIF(T=T, decay_input=decay_input)(x)
    assert expected[:4].tolist() == ([0, 1, 0, 0] if decay_input else [1, 1, 0, 1])
    assert np.asarray(neurons_in_onnx(x.numpy(), T, 2.0, decay_input, 0.5, 0).value).tolist() == expected.tolist()


def test_integer_neurons_in_onnx_subtract_what_they_fired_as_those_of_torch():
    x = torch.randn(3 * 20, generator=torch.Generator().manual_seed(0)) * 2
    expected = ILIF(T=3, levels=4, v_threshold=0.6)(x)
    assert set(expected[40:].tolist()) == {0, 1, 2, 3, 4}
    assert np.asarray(neurons_in_onnx(x.numpy(), 3, 4 / 3, False, 0.6, 4).value).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("name", "n_genes", "settings"),
    [
        ("cifarnet", 4, {}),
        pytest.param("vgg16", None, {"v_reset": None, "tau": 1.5}, marks=SLOW),
        pytest.param("vgg16", 4, {"decay_input": False, "tau": 1.7, "v_threshold": 0.4, "pool": "avg"}, marks=SLOW),
        pytest.param("resnet19", 4, {"block": "pre"}, marks=SLOW),
        ("cifarnet", 4, {"neuron": "ilif", "levels": 4}),
        pytest.param("vgg16", 4, {"neuron": "ilif", "levels": 2, "tau": 2.0}, marks=SLOW),
    ],
)
def test_onnx_runtime_answers_as_torch_does_for_batches_of_any_size(name, n_genes, settings):
    net = lively(name, n_genes, **settings)
    for n in (1, 3):
        with torch.no_grad():
            o_TBK = net(images(n, seed=n))
        found = run(exported(name, n_genes, **settings), images(n, seed=n))
        torch.testing.assert_close(found, o_TBK.mean(0), rtol=1e-4, atol=1e-4)
    assert (o_TBK[1:] - o_TBK[:-1]).abs().max() > 1e-3  # the steps differ, and so do the images
    assert (o_TBK[:, 0] - o_TBK[:, 1]).abs().max() > 1e-3


def test_the_model_has_named_sizes_standard_operators_and_nothing_of_the_machine():
    content = exported("cifarnet", 4)
    model = onnx.load_from_string(content)
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert sizes == {"images": ["batch", 3, 8, 8], "logits": ["batch", 5]}
    assert {(o.domain, o.version) for o in model.opset_import} == {("", OPSET)}
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions and not model.metadata_props
    home = Path(__file__).resolve().parents[3]
    for trace in (str(home), str(Path(torch.__file__).parent), ".py", "site-packages", "stack_trace", "pkg.torch"):
        assert trace.encode() not in content, trace


@SLOW
def test_the_same_network_gives_the_same_bytes_also_in_training_and_without_sizes():
    net = copy.deepcopy(lively("cifarnet", 4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert to_onnx(net, opset=OPSET) == exported("cifarnet", 4)
    assert net.training
    assert genome_of(net) is not None
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def not_finite():
    net = copy.deepcopy(lively("cifarnet", 4))
    net.body[0].conv.parametrizations.weight.original.data[0, 0, 0] = torch.nan
    return net


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (not_finite, r"^body\.0\.conv has weights that are not finite$"),
        (lambda: nn.Conv2d(3, 4, 3), r"^Conv2d answers one image with \(1, 4, 6, 6\): its output must be \(T, B, K\)"),
        (lambda: nn.Conv3d(3, 4, 3), r"raises RuntimeError on images of shape \(1, 3, 8, 8\): .*register_network$"),
        (lambda: own_networks.AllSteps(5, 3, 8), "if it takes .T, B, ….*, as in step mode m, give T, or register it with"),
    ],
)
def test_what_cannot_be_exported_is_refused(make, says):
    with pytest.raises(ExportError, match=says):
        to_onnx(make(), 3, 8)


def test_an_opset_or_sizes_that_nobody_knows_are_refused():
    for opset, says in ((17, "torch's exporter writes none below 18"), (999, "the installed onnx knows none above")):
        with pytest.raises(InputError, match=f"opset = {opset}: {says}"):
            to_onnx(lively("cifarnet", 4), 3, 8, opset)
    with pytest.raises(InputError, match="in_channels, image_size: Sequential does not say which it is built for: give them"):
        to_onnx(nn.Sequential(nn.Conv2d(3, 4, 3)), image_size=8)
    with pytest.raises(InputError, match=r"the example has the shape \(3, 8, 8\), .*: give images .B, C, H, W. or frames"):
        to_onnx(lively("cifarnet", 4), images(1)[0])
    with pytest.raises(ValueError, match=r"^image_size must be >= 1, and an int, got tensor\(.{,53}$"):
        to_onnx(lively("cifarnet", 4), 3, images(9))
    for size in ({"image_size": 0}, {"in_channels": 0}, {"T": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(size))} must be >= 1, got 0$"):
            to_onnx(lively("cifarnet", 4), **size)


@SLOW
def test_neurons_with_a_hook_or_a_method_of_their_own_are_exported_as_they_are():
    class Inverted(LIF):
        def forward(self, x):
            return 1.0 - super().forward(x)

    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 9), LIF(1), nn.Linear(9, 8), Inverted(1), nn.Linear(8, 5))
    net[2].register_forward_hook(lambda module, args, spikes: 2.0 * spikes)
    torch.testing.assert_close(run(to_onnx(net, 3, 8), images(3)), net(images(3)).detach(), rtol=0, atol=1e-5)


@SLOW
@pytest.mark.usefixtures("own")
def test_a_network_that_torch_cannot_export_is_refused_in_one_line(capsys):
    class Loops(own_networks.VGG):
        def forward(self, x):
            o = super().forward(x)
            return o + 1 if o.sum().item() > 0 else o  # depends on the values

    gee_core.register_network("a:loops", Loops)
    net = build_network("a:loops", 5, 1, 8, T=2).eval()
    with pytest.raises(ExportError, match=r"^torch cannot export a:loops to ONNX \(GuardOnDataDependentSymNode: ") as refused:
        to_onnx(net, 1, 8, OPSET)
    assert "\n" not in str(refused.value)
    assert "def forward" not in capsys.readouterr().err


@SLOW
def test_an_example_takes_the_place_of_the_sizes_and_of_the_steps_of_step_mode_m():
    net, x_TBCHW = own_networks.AllSteps(5, 1, 8).eval(), torch.rand(3, 4, 1, 8, 8)
    assert to_onnx(net, x_TBCHW) == to_onnx(net, 1, 8, T=3)
    assert to_onnx(lively("cifarnet", 4), images(2), opset=OPSET) == exported("cifarnet", 4)


@SLOW
@pytest.mark.usefixtures("own")
def test_own_networks_are_exported_without_the_charge_of_an_earlier_run():
    net, x = own_networks.lively("networks.my:ResNet", 4)
    with torch.no_grad():
        expected = net(x).mean(0)
        functional.reset_net(net)
        net(x[:2])
    torch.testing.assert_close(run(to_onnx(net, 1, 8, OPSET), x), expected, rtol=1e-4, atol=1e-4)


CASES = [
    ("cifarnet", 4, "int8"),
    pytest.param(("resnet19", 4, "int4"), marks=SLOW),
    pytest.param(("resnet19", None, "fp32"), marks=SLOW),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def grown(request):
    """(network as it is read from its file of genes, its ONNX with weights, its ONNX with genes, format)."""
    name, n_genes, format = request.param
    if name == "cifarnet":
        net, plain = lively(name, n_genes), exported(name, n_genes)
    else:
        net = from_file(lively(name, n_genes), format)
        plain = to_onnx(net, 3, 8, OPSET)
    return net, plain, with_genes(plain, net, format), format


def test_with_genes_it_answers_as_the_network_that_is_read_from_their_file_does(grown):
    net, plain, model, _ = grown
    x = images(5, seed=5)
    with torch.no_grad():
        expected = net(x).mean(0)
    for answer in (run(model, x), run(plain, x)):
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    assert expected.std(0).max() > 1e-3


def test_it_holds_genes_in_the_format_and_no_weight_that_is_grown(grown):
    net, _, model, format = grown
    types = {"fp32": onnx.TensorProto.FLOAT, "bf16": onnx.TensorProto.BFLOAT16}
    found = {(tuple(t.dims), t.data_type) for t in onnx.load_from_string(model).graph.initializer}
    stored = {tuple(p.shape) for p in net.parameters() if p.ndim > 1}
    assert {(shape, types.get(format, onnx.TensorProto.INT8)) for shape in stored} <= found
    genome = genome_of(net)
    grown_shapes = {tuple(conv.weight.shape) for conv in genome.encoded_convs()} if genome else set()
    assert not {shape for shape, kind in found if kind == onnx.TensorProto.FLOAT} & (grown_shapes - stored)
    names = [node.name for node in onnx.load_from_string(model).graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_onnx_runtime_computes_the_weights_once_when_the_session_starts(grown, tmp_path):
    left = []
    for name, model in (("plain", grown[1]), ("grown", grown[2])):
        session(model, tmp_path / name)
        left.append(sorted(node.op_type for node in onnx.load(tmp_path / name).graph.node))
    assert left[0] == left[1]


def test_a_weight_that_the_exporter_changed_by_more_than_a_factor_stays_a_weight(grown):
    net, plain, *_ = grown
    model = onnx.load_from_string(plain)
    W = next(t for t in model.graph.initializer if t.name == "net.stem.conv.weight")
    changed = onnx.numpy_helper.to_array(W).copy()
    changed[0, 0, 0, 0] += 1
    W.CopyFrom(onnx.numpy_helper.from_array(changed, W.name))
    kept = {t.name for t in onnx.load_from_string(with_genes(model.SerializeToString(), net, "int8")).graph.initializer}
    assert "net.stem.conv.weight" in kept and "net.head.0.weight" not in kept
