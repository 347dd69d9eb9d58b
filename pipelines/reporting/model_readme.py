"""The README of an exported model: what it was trained on and how, what was measured, how to use it, and its limits."""

import json
import re
from collections.abc import Collection

import jinja2

from gee_core.config import Params
from gee_core.config.evaluation import Evaluation
from gee_core.config.known_networks import is_own
from gee_core.config.section import Section
from gee_core.data.meta import Meta
from gee_core.evaluation.activity import energy_text
from pipelines.inputs.measured import Exported

TEXT = """\
---
library_name: gee
pipeline_tag: image-classification
tags: [spiking-neural-network, genetic-encoding]
model-index:
- name: {{ name }}
  results:
  - task: {type: image-classification}
    dataset: {name: {{ meta.dataset | tojson }}, type: {{ meta.dataset | tojson }}}
    metrics: [{type: accuracy, value: {{ "%.4f" | format(measured.test_accuracy) }}}]
---
{% set network, n_genes, size = params.network, params.network.n_genes, meta.image_size %}
# {{ name }}

A spiking network {% if n_genes is none %}with ordinary weights{% else %}whose weights are grown from {{ n_genes }} genes\
{% endif %}. It sorts {% if meta.events %}recordings of an event camera, {{ network.T }} frames of {{ size }} × {{ size }},\
{% else %}{{ size }} × {{ size }} {{ "grey" if meta.in_channels == 1 else "colour" }} images{% endif %} into \
{{ meta.num_classes }} classes.

| on {{ "{:,}".format(meta.n_test) }} test images | |
|---|---|
| accuracy | {{ "{:.2%}".format(measured.test_accuracy) }} |
| loss | {{ "{:.4g}".format(measured.test_loss) }} |
| parameters | {{ "{:,} ({:,} without genes)".format(measured.parameters, measured.plain_parameters) }} |
| energy per image | {{ measured.energy_mj | energy }}; {{ measured.energy_with_decoding_mj | energy }} with building the \
weights from the genes |
| spikes per image | {{ "{:,.0f}, firing rate {:.1%}".format(measured.spikes_per_image, measured.firing_rate) }} |

## Data

{{ meta.dataset }} ({{ meta.source | text }}), digest `{{ meta.digest }}`: {{ "{:,}".format(meta.n_train) }} training and \
{{ "{:,}".format(meta.n_test) }} test images. Classes: {{ classes | map("text") | join(", ") }}\
{% if meta.num_classes > classes | length %} and {{ meta.num_classes - classes | length }} more{% endif %}.\
{% if meta.unevenness %} They are uneven: {{ meta.unevenness | text }}.{% endif %} \
`example.png` is a test image of class {{ example | text }}.

## Recipe

{% if own %}`{{ network.name }}` at width {{ "{:g}".format(network.width) }}{% else %}\
{{ network.name }}, {{ "{:g}".format(network.width) }} times the paper's channels{% endif %}, {{ network.T }} time steps, \
seed {{ params.base.seed }}. {% if n_genes is none %}Ordinary initial weights.{% elif params.train.init_from %}\
Training started at genes fitted to the weights of a trained plain network.{% else %}\
The initial wiring is {% if params.evolve.searches %}the best that `{{ params.evolve.variant }}` found in \
{{ params.evolve.n_generations }} × {{ population }} candidates{% else %}`{{ params.evolve.variant }}`, without a search\
{% endif %}.{% endif %} The network was trained with:

{{ recipe }}
## Use

{% if meta.events %}
    gee predict --model <this folder> <recordings>

In ONNX Runtime, the input `images` are counts of events, float32 (N, T, P, H, W), P the polarities off and on. `events` in \
meta.json says how a recording becomes frames. MLflow takes (T, P, H, W), whole numbers in the column `image`, and torch \
(T, N, P, H, W).
{% else %}
{% if registered %}
In the folder of the project (elsewhere `MLFLOW_TRACKING_URI` must name its server), the first one in a terminal of its own:

    mlflow models serve -m models:/{{ name }}@champion --env-manager local --port 5001
    printf '{"dataframe_records": [{"image": "%s"}]}' "$(base64 < models/export/example.png | tr -d '\\n')" > /tmp/in.json
    curl -s -H 'Content-Type: application/json' -d @/tmp/in.json http://127.0.0.1:5001/invocations

`@champion` is the best version of its name, perhaps another network than this one; `models:/{{ name }}/VERSION` is one \
version. The project's docs/tutorials/use-the-model.md has the use in Python, and of a copy without a registry.
{% else %}
    gee predict --model <this folder> <images>
{% endif %}

An image may have any size; the shorter side is resized to {{ size }} pixels and the middle cut out.

Without MLflow, in the folder of the export, for upright images of 8 bits (pixels that are not normalised get wrong classes, \
and no error):

```python
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("network.onnx")\
{% if exported.genes_onnx_bytes is not none %}  # or "genes.onnx"{% endif +%}
card = json.loads(session.get_modelmeta().custom_metadata_map["gee.card"])
image = Image.open("example.png").convert("{{ "L" if meta.in_channels == 1 else "RGB" }}")
image = ImageOps.fit(image, ({{ size }}, {{ size }}), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32).reshape({{ size }}, {{ size }}, {{ meta.in_channels }})
x = ((pixels / 255 - card["mean"]) / card["std"]).astype(np.float32).transpose(2, 0, 1)[None]  # (1, C, H, W)
(logits,) = session.run(None, {"images": x})
p = np.exp(logits[0] - logits[0].max())
print(card["class_names"][p.argmax()], p.max() / p.sum())
```
{% endif %}
{% if exported.genes_bytes is not none or "network.safetensors" in others %}

{% if exported.genes_bytes is not none %}
The same network is in `genes.safetensors`, in {{ params.export.genes }}: {{ "{:,}".format(exported.genes_bytes) }} bytes, \
accuracy {{ "{:.2%} on the test images ({:.2%} in fp32)".format(exported.genes_accuracy, exported.fp32_accuracy) }}.
{% endif %}
In torch: `net = gee_core.load("{{ "network" if exported.genes_bytes is none else "genes" }}.safetensors").eval()`\
{% if own %}, after `gee_core.register_network("{{ network.name }}", the class or function of that name)`{% endif %}. \
The network answers with logits (T, N, classes).
{% endif %}
{% if "network.nir" in others %}

`network.nir` is the network for other simulators and chips, a NIR graph: \
{{ "a frame" if meta.events else "the same normalised image" }} at each of \
{{ network.T }} steps of 0.1 ms. The project's docs/simulators.md reads it.
{% endif %}

## Limits

- It answers with one of its classes whatever the image shows. Its probabilities are not calibrated.
- It was tested on images from the same source as those it was trained on.
- Energy is a count of operations (Eq. 17 of the paper), not a measurement. ONNX Runtime does not save it.
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
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    env.filters |= {"energy": energy_text, "text": _text}
    return env.from_string(TEXT).render(
        name=name,
        params=params,
        own=is_own(params.network.name),
        population=params.evolve.population(len(params.searched_genes())),
        recipe=as_yaml(params.train, indent=4),
        meta=meta,
        classes=[label[:40] for label in meta.class_names[:10]],
        measured=measured,
        exported=exported,
        example=example,
        others=others,
        registered=registered,
    )


def as_yaml(section: Section, indent: int = 2) -> str:
    """The settings of a section of params.yaml, a line each."""
    values = section.model_dump(mode="json")
    return "".join(f"{' ' * indent}{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _text(name: str) -> str:
    """A name from outside as text that Markdown shows as it is."""
    shown = "".join(letter if letter.isprintable() else " " for letter in name)
    return re.sub(r"([\\`*_{}\[\]<>()#|!&~])", r"\\\1", shown)
