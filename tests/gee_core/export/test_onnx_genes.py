"""ONNX with genes against the network that is read from the file of genes, by ONNX Runtime."""

import copy

import onnx
import onnxruntime
import pytest
import torch

from gee_core.checkpoint import load
from gee_core.export.onnx_genes import with_genes
from gee_core.export.to_onnx import to_onnx
from gee_core.gene_file import save_genes
from gee_core.genome.encoding import genome_of
from tests.gee_core.export.test_to_onnx import OPSET, images, lively

CASES = [
    ("cifarnet", 4, "int8"),
    ("resnet19", 4, "int4"),
    pytest.param(("vgg16", 4, "fp32"), marks=pytest.mark.slow),  # an export takes seconds
    pytest.param(("vgg16", 4, "bf16"), marks=pytest.mark.slow),
    pytest.param(("cifarnet", None, "int8"), marks=pytest.mark.slow),
    pytest.param(("resnet19", None, "fp32"), marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, tmp_path_factory):
    """(network as it is read from its file, its ONNX with weights, its ONNX with genes, format)."""
    name, n_genes, format = request.param
    path = tmp_path_factory.mktemp("genes") / "genes.safetensors"
    save_genes(path, lively(name, n_genes), format)
    net = load(path).eval()
    plain = to_onnx(net, 3, 8, OPSET)
    return net, plain, with_genes(plain, net, format), format


def test_a_network_in_bfloat16_is_taken_as_float32():
    net = copy.deepcopy(lively("vgg16", None)).bfloat16()
    plain = to_onnx(net, 3, 8)
    stored = with_genes(plain, net, "bf16")
    assert len(stored) < 0.7 * len(plain)
    torch.testing.assert_close(logits(stored, images(3)), logits(plain, images(3)), rtol=1e-4, atol=1e-4)


def session(model: bytes, optimised=None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def logits(model: bytes, x) -> torch.Tensor:
    return torch.from_numpy(session(model).run(["logits"], {"images": x.numpy()})[0])


def test_it_answers_as_the_network_that_is_read_from_the_file_does(case):
    net, plain, grown, _ = case
    for n in (1, 5):
        x = images(n, seed=n)
        with torch.no_grad():
            expected = net(x).mean(0)
        torch.testing.assert_close(logits(grown, x), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits(grown, x), logits(plain, x), rtol=1e-4, atol=1e-4)
    assert expected.std(0).max() > 1e-3


def test_it_holds_genes_in_the_format_and_no_weight_that_is_grown(case):
    net, _, grown, format = case
    types = {"fp32": onnx.TensorProto.FLOAT, "bf16": onnx.TensorProto.BFLOAT16}
    found = {(tuple(t.dims), t.data_type) for t in onnx.load_from_string(grown).graph.initializer}
    stored = {tuple(p.shape) for p in net.parameters() if p.ndim > 1}
    assert {(shape, types.get(format, onnx.TensorProto.INT8)) for shape in stored} <= found
    genome = genome_of(net)
    grown_shapes = {tuple(conv.weight.shape) for conv in genome.encoded_convs()} if genome else set()
    assert not {shape for shape, kind in found if kind == onnx.TensorProto.FLOAT} & (grown_shapes - stored)


def test_every_operator_has_a_name_of_its_own(case):
    names = [node.name for node in onnx.load_from_string(case[2]).graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_onnx_runtime_computes_the_weights_once_when_the_session_starts(case, tmp_path):
    _, plain, grown, _ = case
    left = []
    for name, model in (("plain", plain), ("grown", grown)):
        session(model, tmp_path / name)
        left.append(sorted(node.op_type for node in onnx.load(tmp_path / name).graph.node))
    assert left[0] == left[1]


def test_a_weight_that_the_exporter_changed_by_more_than_a_factor_stays_a_weight(case):
    net, plain, *_ = case
    model = onnx.load_from_string(plain)
    W = next(t for t in model.graph.initializer if t.name == "net.stem.conv.weight")
    changed = onnx.numpy_helper.to_array(W).copy()
    changed[0, 0, 0, 0] += 1
    W.CopyFrom(onnx.numpy_helper.from_array(changed, W.name))
    kept = {t.name for t in onnx.load_from_string(with_genes(model.SerializeToString(), net, "int8")).graph.initializer}
    assert "net.stem.conv.weight" in kept and "net.head.0.weight" not in kept


def test_an_unknown_format_is_refused(case):
    with pytest.raises(ValueError, match="got 'int2'"):
        with_genes(case[1], case[0], "int2")
