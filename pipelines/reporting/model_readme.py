"""The README of an exported model: what it was trained on and how, what was measured, how to use it, and its limits."""

import json
import re
from collections.abc import Collection, Sequence

from gee_core.config import Params
from gee_core.config.evaluation import Evaluation
from gee_core.config.known_networks import is_own
from gee_core.config.section import Section
from gee_core.data.meta import Meta
from gee_core.evaluation.activity import energy_text
from pipelines.inputs.measured import Exported

SHOWN_CLASSES = 10

TEXT = """\
# {name}

{what} It sorts {size} × {size} {colour} images into {n_classes} classes.

| on {n_test:,} test images | |
|---|---|
| accuracy | {test_accuracy:.2%} |
| loss | {test_loss:.4g} |
| parameters | {parameters:,} ({plain_parameters:,} without genes) |
| energy per image | {energy}; {energy_with_decoding} with building the weights from the genes |
| spikes per image | {spikes_per_image:,.0f}, firing rate {firing_rate:.1%} |

## Data

{dataset} ({source}), digest `{digest}`: {n_train:,} training and {n_test:,} test images. \
Classes: {classes}.{uneven} `example.png` is a test image of class {example}.

## Recipe

{network}, {T} time steps, seed {seed}. {wiring} The network was trained with:

{recipe}
## Use

{use}{files}{torch}{nir}
## Limits

- It answers with one of its classes whatever the image shows. Its probabilities are not calibrated.
- It was tested on images from the same source as those it was trained on.
- Energy is a count of operations (Eq. 17 of the paper), not a measurement. ONNX Runtime does not save it.
"""

IN_MLFLOW = """\
In the folder of the project (elsewhere `MLFLOW_TRACKING_URI` must name its server), the first one in a terminal of its own:

    mlflow models serve -m models:/{name}@champion --env-manager local --port 5001
    printf '{{"dataframe_records": [{{"image": "%s"}}]}}' "$(base64 < models/export/example.png | tr -d '\\n')" > /tmp/in.json
    curl -s -H 'Content-Type: application/json' -d @/tmp/in.json http://127.0.0.1:5001/invocations

`@champion` is the best version of its name, perhaps another network than this one; `models:/{name}/VERSION` is one version. \
A copy of a version needs no registry, and nothing of this project:

    mlflow artifacts download -u models:/{name}@champion -d /tmp/copy
    mlflow models predict -m /tmp/copy --env-manager local -t json -i /tmp/in.json

An image may have any size; the shorter side is resized to {size} pixels and the middle cut out. In Python, \
`mlflow.pyfunc.load_model("/tmp/copy").predict` takes a table; a row of its column `image` holds the bytes of a file, these \
bytes as base64, or a uint8 array (H, W) or (H, W, C).
"""

IN_FOLDER = """\
    gee predict --model <this folder> <images>

An image may have any size; the shorter side is resized to {size} pixels and the middle cut out.
"""

FILES = """
Without MLflow, in the folder of the export, for upright images of 8 bits (pixels that are not normalised get wrong classes, \
and no error):

```python
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("network.onnx"){or_genes}
card = json.loads(session.get_modelmeta().custom_metadata_map["gee.card"])
image = ImageOps.fit(Image.open("example.png").convert("{mode}"), ({size}, {size}), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32).reshape({size}, {size}, {in_channels})
x = ((pixels / 255 - card["mean"]) / card["std"]).astype(np.float32).transpose(2, 0, 1)[None]  # (1, C, H, W)
(logits,) = session.run(None, {{"images": x}})
p = np.exp(logits[0] - logits[0].max())
print(card["class_names"][p.argmax()], p.max() / p.sum())
```
"""

OR_GENES = '  # or "genes.onnx"'

TORCH = """
{what}In torch, with `gee_core`:

```python
import torch

import gee_core

{own}net = gee_core.load("{file}").eval()
with torch.no_grad():
    p = net(torch.from_numpy(x)).mean(0).softmax(1)
```
"""

OWN = """\
# first: gee_core.register_network("{name}", the class or function of that name)
"""

GENES = """\
The same network is in `genes.safetensors`, in {format}: {genes_bytes:,} bytes, accuracy {genes_accuracy:.2%} on the test \
images ({fp32_accuracy:.2%} in fp32). """

NIR = """
`network.nir` is the network for other simulators and chips, a NIR graph: the same normalised image at each of {T} steps of \
0.1 ms. In SpikingJelly:

```python
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir

simulator, state, logits = import_from_nir("network.nir"), None, 0
for step in range({T}):
    o, state = simulator(torch.from_numpy(x), state)
    logits = logits + o / {T}
```
"""


def describe(
    name: str,
    params: Params,
    meta: Meta,
    measured: Evaluation,
    exported: Exported,
    example: str,
    others: Collection[str] = (),
    registered: bool = True,
) -> str:
    """The README as Markdown.

    ``example`` is the class of the image in example.png; ``others`` are those of network.nir and network.safetensors that lie
    next to network.onnx; ``registered``: whether MLflow has the model under ``name``.
    """
    network, n_genes = params.network, params.network.n_genes
    weights = "with ordinary weights" if n_genes is None else f"whose weights are grown from {n_genes} genes"
    return TEXT.format(
        **measured.model_dump(),
        **meta.model_dump(include={"dataset", "n_train", "n_test"}),
        energy=energy_text(measured.energy_mj),
        energy_with_decoding=energy_text(measured.energy_with_decoding_mj),
        name=name,
        what=f"A spiking network {weights}.",
        use=(IN_MLFLOW if registered else IN_FOLDER).format(name=name, size=meta.image_size),
        files=FILES.format(
            in_channels=meta.in_channels,
            size=meta.image_size,
            mode="L" if meta.in_channels == 1 else "RGB",
            or_genes="" if exported.genes_onnx_bytes is None else OR_GENES,
        ),
        torch=_torch(params, exported, others),
        nir=NIR.format(T=network.T) if "network.nir" in others else "",
        size=meta.image_size,
        colour="grey" if meta.in_channels == 1 else "colour",
        n_classes=meta.num_classes,
        digest=meta.digest,
        classes=_listed(meta.class_names),
        uneven=f" They are uneven: {_text(meta.unevenness)}." if meta.unevenness else "",
        source=_text(meta.source),
        example=_text(example),
        network=f"`{network.name}` at width {network.width:g}"
        if is_own(network.name)
        else f"{network.name}, {network.width:g} times the paper's channels",
        T=network.T,
        wiring=_wiring(params),
        seed=params.base.seed,
        recipe=as_yaml(params.train, indent=4),
    )


def as_yaml(section: Section, indent: int = 2) -> str:
    """The settings of a section of params.yaml, a line each."""
    values = section.model_dump(mode="json")
    return "".join(f"{' ' * indent}{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _torch(params: Params, exported: Exported, others: Collection[str]) -> str:
    own = OWN.format(name=params.network.name) if is_own(params.network.name) else ""
    if exported.genes_bytes is not None:
        genes = GENES.format(format=params.export.genes, **exported.model_dump())
        return TORCH.format(what=genes, own=own, file="genes.safetensors")
    return TORCH.format(what="", own=own, file="network.safetensors") if "network.safetensors" in others else ""


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN_CLASSES
    return ", ".join(_text(name[:40]) for name in names[:SHOWN_CLASSES]) + (f" and {rest} more" if rest > 0 else "")


def _text(name: str) -> str:
    """A name from outside as text that Markdown shows as it is."""
    shown = "".join(letter if letter.isprintable() else " " for letter in name)
    return re.sub(r"([\\`*_{}\[\]<>()#|!&~])", r"\\\1", shown)


def _wiring(params: Params) -> str:
    evolve = params.evolve
    if params.network.n_genes is None:
        return "Ordinary initial weights."
    if params.train.init_from is not None:
        return "Training started at genes fitted to the weights of a trained plain network."
    if not evolve.searches:
        return f"The initial wiring is `{evolve.variant}`, without a search."
    n = evolve.population(len(params.searched_genes()))
    return f"The initial wiring is the best that `{evolve.variant}` found in {evolve.n_generations} × {n} candidates."
