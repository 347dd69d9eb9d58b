"""A trained network as ONNX: genes decoded to plain convolutions, time steps unrolled, logits as output.

Neurons are one node of torch's exported graph, written out in ONNX operators at the end: traced, their loop over time is most
of a network's graph, and the exporter's time grows with it.

Shapes: T steps, B batch, C channels, H W space, K classes. Neurons have their steps folded into the batch: (T*B, ...).
"""

import contextlib
import io
import logging
import warnings
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import opset18 as op
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from gee_core.errors import ExportError, InputError, in_short, whole_number
from gee_core.export.model_card import CARD_ENTRY, ModelCard
from gee_core.genome.copying import as_written, check_values, running_on, without_logs
from gee_core.genome.encoding import decode
from gee_core.model.base import SpikingNetwork, image_shape
from gee_core.seeding import private_torch_rng
from gee_core.snn.lif import ILIF, LIF

OLDEST = 18
"""The first opset that torch's exporter writes."""

DOC = (
    "images: float32 (N, C, H, W), of uint8 pixels (pixels / 255 - mean) / std of each channel. logits: (N, classes); the "
    f"probabilities are their softmax. The metadata {CARD_ENTRY} has mean, std, image_size and class_names, as JSON."
)


@torch.library.custom_op("gee::neurons", mutates_args=())
def neurons(x: Tensor, T: int, tau: float, decay_input: bool, v_threshold: float, levels: int) -> Tensor:
    """Spikes (T*B, ...) of currents ``x`` (T*B, ...), or with ``levels`` the integers of I-LIF neurons."""
    raise NotImplementedError("gee::neurons is for export only")


@neurons.register_fake
def _like_the_currents(x: Tensor, T: int, tau: float, decay_input: bool, v_threshold: float, levels: int) -> Tensor:
    return torch.empty_like(x)


def neurons_in_onnx(x: Any, T: int, tau: float, decay_input: bool, v_threshold: float, levels: int) -> Any:
    """The operators of ``neurons``, in the arithmetic of ``gee_core.snn.dynamics``."""
    if levels:
        return ilif_in_onnx(x, T, tau, v_threshold, levels)
    tau_1, threshold_1, zero_1 = (op.Constant(value_float=value) for value in (tau, v_threshold, 0.0))
    spikes, v = [], None
    for x_t in op.Split(x, axis=0, num_outputs=T) if T > 1 else [x]:
        if v is None:  # at rest
            h = op.Div(x_t, tau_1) if decay_input else x_t
        elif decay_input:
            h = op.Add(v, op.Div(op.Sub(x_t, v), tau_1))
        else:
            h = op.Add(op.Sub(v, op.Div(v, tau_1)), x_t)
        fired = op.GreaterOrEqual(h, threshold_1)
        spikes.append(op.Cast(fired, to=onnxscript.FLOAT.dtype))
        v = op.Where(fired, zero_1, h)
    return op.Concat(*spikes, axis=0)  # type: ignore[type-var]


def ilif_in_onnx(x: Any, T: int, tau: float, v_threshold: float, levels: int) -> Any:
    """The operators of I-LIF ``neurons``."""
    decay, threshold_1, per_current, zero, largest = (
        op.Constant(value_float=value) for value in (1.0 - 1.0 / tau, v_threshold, 1.0 / v_threshold, 0.0, float(levels))
    )
    integers, v = [], None
    for x_t in op.Split(x, axis=0, num_outputs=T) if T > 1 else [x]:
        h = x_t if v is None else op.Add(op.Mul(decay, v), x_t)
        integers.append(op.Round(op.Clip(op.Mul(h, per_current), zero, largest)))
        v = op.Sub(h, op.Mul(integers[-1], threshold_1))
    return op.Concat(*integers, axis=0)  # type: ignore[type-var]


class OneNode(nn.Module):
    """Takes the place of neurons with the standard settings while their network is exported."""

    def __init__(self, neurons: LIF | ILIF):
        super().__init__()
        self.T = neurons.T
        self._tau, self._v_threshold = neurons.tau, neurons.v_threshold
        self._decay_input, self._levels = neurons.decay_input, getattr(neurons, "levels", 0)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, ...) of currents ``x`` (T*B, ...)."""
        return torch.ops.gee.neurons(x, self.T, self._tau, self._decay_input, self._v_threshold, self._levels)


class Logits(nn.Module):
    """A network without genes whose output is the mean over the steps, if it puts out all of them.

    Its standard neurons are replaced, but for subclasses and those with hooks: they are traced.
    """

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.net = plain
        for module in list(plain.modules()):
            for name, child in module.named_children():
                hooks = child._forward_hooks or child._forward_pre_hooks
                if isinstance(child, LIF | ILIF) and type(child) in (LIF, ILIF) and child.is_standard and not hooks:
                    setattr(module, name, OneNode(child))
        functional.reset_net(self.net)  # else the exporter writes down what the neurons hold from their last run

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W), or frames (B, T, C, H, W), → logits (B, K)."""
        output = self.net(images if images.ndim == 4 else images.transpose(0, 1))
        return output if output.ndim == 2 else output.mean(0)


def to_onnx(
    net: nn.Module,
    in_channels: int | Tensor | None = None,
    image_size: int | None = None,
    opset: int = OLDEST,
    T: int | None = None,
) -> bytes:
    """The ONNX model of ``net`` as bytes: input ``images`` (B, C, H, W) float32, output ``logits`` (B, K), any B.

    It consists of standard operators of ``opset`` and passes ONNX's own checker. ``net`` is not changed.

    Args:
        net: a network of ``build_network``, or any whose output is (T, B, K), whose mean over T are the logits, or (B, K). One
            in step mode ``s`` leaves as one step from rest. ``register_network`` makes it run T times.
        in_channels: C, None for the channels that a network of ``build_network`` was built for. Or an example, images
            (B, C, H, W) or frames (T, B, C, H, W), in place of the numbers: ``to_onnx(net, x)``.
        image_size: H and W, None likewise.
        opset: version of the ONNX operator set, >= 18.
        T: steps of a network that takes (T, B, C, H, W), as events or in step mode ``m``. The model's input is then
            (B, T, C, H, W).

    Returns:
        The model, as the bytes of an .onnx file.

    Raises:
        InputError: torch's exporter or the installed ``onnx`` does not know ``opset``, or a size is neither given nor known.
        ValueError: a size or ``T`` is below 1.
        ExportError: torch's exporter gives up on the network, it raises on images, its output has another shape, or a weight is
            not finite.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> type(gee_core.to_onnx(net.eval())).__name__
        'bytes'
    """
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:  # the exporter would take an older one
        raise InputError(f"opset = {opset}: the installed onnx knows none above {newest}", "set it to 18")
    if opset < OLDEST:
        raise InputError(f"opset = {opset}: torch's exporter writes none below {OLDEST}", f"set it to {OLDEST}")
    if T is None and isinstance(in_channels, Tensor) and in_channels.ndim == 5:
        T = len(in_channels)
    example = torch.zeros(2, *([] if T is None else [whole_number("T", T)]), *image_shape(net, in_channels, image_size))
    check_values(net)
    plain = decode(net).cpu().float().eval()
    built_with = net.built_with if isinstance(net, SpikingNetwork) else None
    name = type(net).__name__ if built_with is None else built_with.network.name
    _check_output(name, plain, example[:1] if T is None else example[:1].transpose(0, 1))
    model = Logits(plain).eval()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for layer, module in model.net.named_modules():
        if not all(weight.isfinite().all() for weight in module.parameters(recurse=False)):
            raise ExportError(f"{layer or type(module).__name__} has weights that are not finite")
    try:
        with (  # the exporter's notices about itself, and the whole graph that it prints when it gives up
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stderr(io.StringIO()),
            without_logs("torch", logging.CRITICAL),
            torch.autocast("cpu", enabled=False),
        ):
            program = torch.onnx.export(
                model,
                (example,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                opset_version=opset,
                dynamo=True,
                custom_translation_table={torch.ops.gee.neurons.default: neurons_in_onnx},
                verbose=False,
            )
    except Exception as error:
        # the exporter's own message is a page of advice
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ExportError(f"torch cannot export {name} to ONNX ({type(cause).__name__}: {in_short(cause)})") from error
    assert program is not None  # `dynamo` always gives one
    exported = program.model_proto  # a new one at every access
    graph = exported.graph
    # the exporter's notes: a third of a small model's bytes, and stack traces with the paths of this machine
    for part in [exported, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        part.ClearField("metadata_props")
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString()


def _check_output(name: str, plain: nn.Module, image: Tensor) -> None:
    """ExportError unless the output of ``plain`` on one image, (1, C, H, W) or (T, 1, C, H, W), is (T, 1, K) or (1, K)."""
    functional.reset_net(plain)
    try:
        remedy = "if it takes (T, B, …), as in step mode m, give T, or register it with gee_core.register_network"
        running = running_on(image, "images", remedy)
        with running, torch.no_grad(), as_written(plain), private_torch_rng(0):
            output = plain(image)
    except InputError as error:
        raise ExportError(error.problem, error.remedy, error.key) from error
    form = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if not isinstance(output, Tensor) or output.ndim not in (2, 3) or output.shape[-2] != 1:
        raise ExportError(f"{name} answers one image with {form}", "its output must be (T, B, K) or (B, K), here with B = 1")


def with_card(model: bytes, card: ModelCard) -> bytes:
    """The ONNX ``model`` with ``card`` as its only metadata, and a description of its input and output as its `doc_string`."""
    proto = onnx.load_from_string(model)
    onnx.helper.set_model_props(proto, {CARD_ENTRY: card.model_dump_json()})
    frames = DOC.replace("(N, C, H, W)", "(N, T, C, H, W), a count of events per frame, polarity and pixel")
    proto.doc_string = DOC if card.events is None else frames
    return proto.SerializeToString()
