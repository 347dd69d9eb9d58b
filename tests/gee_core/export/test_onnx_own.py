"""The user's own networks as ONNX."""

import onnxruntime
import pytest
import torch
from spikingjelly.activation_based import functional

import gee_core
from gee_core.errors import ExportError
from gee_core.export.to_onnx import to_onnx
from tests.gee_core.own_networks import VGG, lively

pytestmark = pytest.mark.usefixtures("own")


@pytest.mark.parametrize(
    "name",
    [
        "networks.my:VGG",
        pytest.param("networks.my:ResNet", marks=pytest.mark.slow),
        pytest.param("networks.my:MultiStep", marks=pytest.mark.slow),
        pytest.param("networks.my:Folded", marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_answers_as_torch_does_for_batches_of_any_size(name):
    net, x = lively(name, 4)
    session = onnxruntime.InferenceSession(to_onnx(net, 1, 8, 18), providers=["CPUExecutionProvider"])
    for images in (x, x[:1]):
        found = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
        torch.testing.assert_close(found, net(images).mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_network_that_torch_cannot_export_is_refused_in_one_line_and_left_as_it_was(capsys):
    class Loops(VGG):
        def forward(self, x):
            o = super().forward(x)
            return o + 1 if o.sum().item() > 0 else o  # depends on the values

    gee_core.register_network("a:loops", Loops)
    net = gee_core.build_network("a:loops", 5, 1, 8, T=2).eval()
    with pytest.raises(ExportError, match=r"^torch cannot export a:loops to ONNX \(GuardOnDataDependentSymNode: ") as refused:
        to_onnx(net, 1, 8, 18)
    assert "\n" not in str(refused.value)
    assert "def forward" not in capsys.readouterr().err
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 2, 5)


def test_what_neurons_hold_of_an_earlier_run_is_not_exported():
    torch.manual_seed(0)
    net, x = VGG(5, 1, 8, T=2).eval(), torch.rand(3, 1, 8, 8) * 4
    with torch.no_grad():
        expected = net(x).mean(0)
        functional.reset_net(net)
        net(x[:2])
    session = onnxruntime.InferenceSession(to_onnx(net, 1, 8), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
