"""ONNX that holds genes: every weight is grown from them by operators, which ONNX Runtime computes once, when a session starts.

    X ≈ Cast(codes) · scale,    W = Reshape(Transpose(X_out · O · X_inᵀ)) · s

s is the factor per output channel that torch's exporter folds out of a batch norm into the weight in front of it. All inputs of
these operators are constants, so that ONNX Runtime's constant folding leaves the network with weights. It does not fold
DequantizeLinear by default, hence Cast and Mul. A weight that the exporter changed in any other way stays a weight.

Shapes: K kernel positions, I in-channels, J out-channels, G genes.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from gee_core.gene_file import FLOATS
from gee_core.genome.encoding import decode, genome_of
from gee_core.genome.quantise import BITS, along, quantise, scaled_dim

WEIGHTS = "net."
"""What the exporter puts before the names of a network's tensors."""

TYPES = {torch.float32: TensorProto.FLOAT, torch.bfloat16: TensorProto.BFLOAT16, torch.int8: TensorProto.INT8}


def with_genes(model: bytes, net: nn.Module, format: str) -> bytes:
    """The ONNX ``model`` that ``to_onnx`` made of ``net``, with genes in place of the weights, all matrices in ``format``.

    Its weights are the weights of ``net``, rounded as by ``save_genes``. int4 takes a byte per number, because ONNX knows int4
    from operator set 21 on only.
    """
    proto = onnx.load_from_string(model)
    graph = _Genes(net.state_dict(), format)
    weights = {name: W for name, W in decode(net).state_dict().items() if scaled_dim(name, W) is not None}
    sources = _sources(net)
    for initializer in list(proto.graph.initializer):
        name = initializer.name.removeprefix(WEIGHTS)
        if name not in weights or (format == "fp32" and name not in sources):
            continue
        factor = _factor(numpy_helper.to_array(initializer), weights[name].float().cpu().contiguous().numpy())
        if factor is None:
            continue
        grown = graph.grow(*sources[name], weights[name].shape) if name in sources else graph.stored(name)
        graph.add("Mul", [grown, graph.constant(f"{name}.factor", torch.from_numpy(factor))], initializer.name)
        proto.graph.initializer.remove(initializer)
    nodes = [*graph.nodes, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(graph.constants.values())
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _sources(net: nn.Module) -> dict[str, tuple[str, str]]:
    """The names of X_{l-1} and X_l, by the name of the weight that is grown from them."""
    genome = genome_of(net)
    if genome is None:
        return {}
    names = {module: name for name, module in net.named_modules()}
    convs = [names[conv] for conv in genome.encoded_convs()]
    X = ["genome.X_0", *(f"{conv}.parametrizations.weight.original" for conv in convs)]
    return {f"{conv}.weight": pair for conv, pair in zip(convs, itertools.pairwise(X), strict=True)}


def _factor(exported: np.ndarray, W: np.ndarray) -> np.ndarray | None:
    """s (J, 1, …) with ``exported`` = s · ``W``, or None where no s fits."""
    if exported.shape != W.shape:
        return None
    exported_JN, W_JN = exported.reshape(len(W), -1).astype(np.float64), W.reshape(len(W), -1).astype(np.float64)
    s_J = (exported_JN * W_JN).sum(1) / np.maximum((W_JN**2).sum(1), np.finfo(np.float64).tiny)
    if np.abs(s_J[:, None] * W_JN - exported_JN).max() > 1e-5 * np.abs(exported_JN).max():
        return None
    return s_J.astype(np.float32).reshape(-1, *[1] * (W.ndim - 1))


class _Genes:
    """The operators that grow weights, and the constants that they start from."""

    def __init__(self, state: dict[str, Tensor], format: str):
        self._state, self._format = state, format
        self._float: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with the name of its output. Returns this name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, value: Tensor) -> str:
        """Add a constant. Returns its name."""
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        self.constants[name] = helper.make_tensor(name, TYPES[value.dtype], value.shape, raw, raw=True)
        return name

    def stored(self, name: str) -> str:
        """The tensor ``name`` of the network as float32, from a constant in the format."""
        if name not in self._float:
            value = self._state[name]
            if self._format in FLOATS:
                constant = self.constant(f"{name}.{self._format}", value.to(FLOATS[self._format]))
                is_float = self._format == "fp32"
                self._float[name] = constant if is_float else self.add("Cast", [constant], name, to=TensorProto.FLOAT)
            else:
                dim = scaled_dim(name, value)
                assert dim is not None  # only matrices are grown from
                codes, scale = quantise(value, BITS[self._format], dim)
                steps = self.add("Cast", [self.constant(f"{name}.codes", codes)], f"{name}.steps", to=TensorProto.FLOAT)
                self._float[name] = self.add("Mul", [steps, self.constant(f"{name}.scale", along(scale, value, dim))], name)
        return self._float[name]

    def grow(self, X_in_KIG: str, X_out_KJG: str, shape: Sequence[int]) -> str:
        """W (J, I, k_h, k_w) of ``shape`` from the encodings of these names, as ``weight.decode_conv`` computes it."""
        half_KJG = self.add("MatMul", [self.stored(X_out_KJG), self.stored("genome.O")], f"{X_out_KJG}.O")
        X_in_KGI = self.add("Transpose", [self.stored(X_in_KIG)], f"{X_out_KJG}.in", perm=[0, 2, 1])
        W_KJI = self.add("MatMul", [half_KJG, X_in_KGI], f"{X_out_KJG}.product")
        W_JIK = self.add("Transpose", [W_KJI], f"{X_out_KJG}.weight", perm=[1, 2, 0])
        size = f"{X_out_KJG}.shape"
        self.constants[size] = helper.make_tensor(size, TensorProto.INT64, [len(shape)], list(shape))
        return self.add("Reshape", [W_JIK, size], f"{X_out_KJG}.W")
