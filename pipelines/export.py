"""Stage export: writes the trained network as ONNX, NIR and its genes, compares each with torch, and registers it in MLflow."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from gee_core.checkpoint import load, load_genes, save
from gee_core.compute import Compute, set_up_gpu
from gee_core.config import Params
from gee_core.config.network import is_own
from gee_core.data.augment import Normalise
from gee_core.data.meta import Meta
from gee_core.data.prepared import Prepared
from gee_core.errors import ExportError, in_section
from gee_core.export.model_card import CARD_ENTRY, ModelCard
from gee_core.export.onnx_genes import with_genes
from gee_core.export.to_nir import nir_agreement, read_nir, to_nir, write_nir
from gee_core.export.to_onnx import to_onnx, with_card
from gee_core.gene_file import save_genes
from gee_core.model.base import SpikingNetwork
from gee_core.pretrained.shipped import updated_card
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.training.loop import Images, accuracy_and_loss, for_inference, outputs
from gee_core.update_file import save_update
from pipelines.inputs.init_from import base_network, init_from_files
from pipelines.inputs.loading import load_trained, png, prepared_images, spaced
from pipelines.inputs.measured import Evaluation, Exported, Searched, read_metrics
from pipelines.project.paths import CHECKPOINT, GENES, IN_USE, NIR, ONNX, REPORTS, UPDATE
from pipelines.reporting.model_readme import describe
from pipelines.runtime.progress import console
from pipelines.runtime.run_files import ExportedModel, as_texts, now_ms
from pipelines.stage import stage
from pipelines.tracking.mlflow_models import FILES, OTHERS

OUT = REPORTS / "export"

BATCH = 256
"""Images per step."""

VERIFIED = 64
"""Test images on which ONNX Runtime and the NIR graph, as SpikingJelly reads it, are compared with torch."""


def write_all(
    folder: Path, params: Params, net: SpikingNetwork, data: Prepared, searched: Searched, measured: Evaluation
) -> tuple[str | None, Exported]:
    """Write ``net`` in every form that it can have, and what its users need, to ``folder``.

    Returns the name under which MLflow registers it, and what was measured of the files. Where torch cannot export an own
    network, the name is None, and the checkpoint takes the place of the ONNX file and the README.
    """
    meta, card = data.meta, build_model_card(params, data.meta)
    model: bytes | None = None
    metrics: dict[str, object] = {}
    try:
        model = with_card(onnx_of(net, meta), card)
        metrics |= compare(model, net, data) | {"onnx_bytes": len(model)}
    except ExportError as error:
        if not is_own(params.network.name):
            raise
        metrics["problem"] = str(error)
    in_nir = write_network_nir(folder / NIR.name, params, net, data)
    if params.export.genes is not None:
        metrics |= write_genes(folder, params, net, data, with_onnx=model is not None)
    if params.train.parts is not None:
        metrics |= write_update(folder / UPDATE.name, params, net, data)
    exported = Exported.model_validate(metrics | in_nir)
    images, labels = next(data.test.batches(1))
    shown = meta.class_names[int(labels[0])]
    write_json(folder / "meta.json", card.model_dump())
    write_atomically(folder / "example.png", png(images[0]))
    if model is None:
        (folder / ONNX.name).unlink(missing_ok=True)
        save(folder / CHECKPOINT.name, net)
        return None, exported
    name = registered_name(params, meta)
    write_atomically(folder / ONNX.name, model)
    others = [file.name for file in (NIR, CHECKPOINT) if (folder / file.name).is_file()]
    write_atomically(folder / "README.md", describe(name, params, meta, searched, measured, exported, shown, others))
    return name, exported


def onnx_of(net: SpikingNetwork, meta: Meta) -> bytes:
    """``net`` as an ONNX model for images as ``meta`` has them."""
    return to_onnx(net, meta.in_channels, meta.image_size, T=meta.events.frames if meta.events else None)


def compare(model: bytes, net: SpikingNetwork, data: Prepared) -> dict[str, float]:
    """How far the ONNX ``model`` and ``net`` agree on some test images: `max_abs_difference` of logits, `agreement`."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    there = for_inference(net)
    answers: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    for images, _ in spaced(data.test, VERIFIED).batches(BATCH):
        x = data.meta.normalise(images).contiguous()
        answers += session.run(None, {"images": (x if x.ndim == 4 else x.transpose(0, 1)).numpy()})
        with torch.no_grad():
            expected.append(there(x).mean(0).numpy())
    answers_NK, expected_NK = np.concatenate(answers), np.concatenate(expected)
    return {
        "max_abs_difference": float(np.abs(answers_NK - expected_NK).max()),
        "agreement": float((answers_NK.argmax(1) == expected_NK.argmax(1)).mean()),
    }


def write_genes(folder: Path, params: Params, net: SpikingNetwork, data: Prepared, with_onnx: bool = True) -> dict[str, float]:
    """Write ``net`` as its genes in the format `export.genes`, to genes.safetensors and, if ``with_onnx``, to genes.onnx.

    Returns their sizes, and how well they do on all test images.
    """
    cfg, path = params.export, folder / GENES.name
    assert cfg.genes is not None
    card = build_model_card(params, data.meta)
    save_genes(path, net, cfg.genes, card.model_dump(mode="json"))
    rounded, compute = load(path), Compute.of(params.base.device, params.base.precision)
    expected, labels = predictions(net, data, compute)
    predicted, _ = predictions(rounded, data, compute)
    metrics = {
        "genes_bytes": path.stat().st_size,
        "genes_accuracy": (predicted == labels).double().mean().item(),
        "genes_agreement": (predicted == expected).double().mean().item(),
        "fp32_accuracy": (expected == labels).double().mean().item(),
    }
    if with_onnx:
        model = with_card(with_genes(onnx_of(rounded, data.meta), rounded, cfg.genes), card)
        write_atomically(path.with_suffix(".onnx"), model)
        agreement = compare(model, rounded, data)["agreement"]
        metrics |= {"genes_onnx_bytes": len(model), "genes_onnx_agreement": agreement}
    return metrics


def write_update(path: Path, params: Params, net: SpikingNetwork, data: Prepared) -> dict[str, float]:
    """Write ``net`` as an update of its base to ``path``.

    Returns the file's size, its accuracy beside that of the base, and on the hold-out beside that of the update in use.
    """
    base, meta = init_from_files(params)[0], data.meta
    former, its_card = base_network(base)
    card: dict[str, object] = {"class_names": meta.class_names} if meta.class_names != its_card.class_names else {}
    card |= {name: tuple(float(f"{x:.4g}") for x in getattr(meta, name)) for name in ("mean", "std")}
    save_update(path, net, base, card)
    compute = Compute.of(params.base.device, params.base.precision)

    def accuracy(there: nn.Module, card: ModelCard, images: Images) -> float | None:
        if card.class_names != meta.class_names:
            return None
        normalise, there = Normalise(card.mean, card.std), for_inference(there).to(compute.device)
        return accuracy_and_loss(there, images.to(compute.device), BATCH, normalise, compute)[0]

    def of_update(file: Path, images: Images) -> float | None:
        return accuracy(load_genes(base, update=file), updated_card(its_card, file), images)

    metrics = {"update_accuracy": of_update(path, data.test), "base_accuracy": accuracy(former, its_card, data.test)}
    if not params.train.include_holdout:
        metrics["update_holdout_accuracy"] = of_update(path, data.holdout_images())
        if IN_USE.is_file():
            metrics["former_holdout_accuracy"] = of_update(IN_USE, data.holdout_images())
    return {"update_bytes": path.stat().st_size} | {name: x for name, x in metrics.items() if x is not None}


def predictions(net: SpikingNetwork, data: Prepared, compute: Compute) -> tuple[torch.Tensor, torch.Tensor]:
    """(predicted classes, labels) of all test images, both (N,)."""
    there = for_inference(net).to(compute.device)
    batches = outputs(there, data.test.to(compute.device), BATCH, data.meta.normalise, compute)
    predicted, labels = zip(*((o_TBK.mean(0).cpu().argmax(1), labels.cpu()) for o_TBK, labels in batches), strict=True)
    return torch.cat(predicted), torch.cat(labels)


def write_network_nir(file: Path, params: Params, net: SpikingNetwork, data: Prepared) -> dict[str, object]:
    """Write ``net`` to ``file`` as a NIR graph. Returns metrics of its comparison, as SpikingJelly reads it, with torch.

    Where NIR cannot express the network: no file, and ``nir_problem``, the reason.
    """
    file.unlink(missing_ok=True)
    try:
        with in_section("network"):
            graph = to_nir(net, data.meta.in_channels, data.meta.image_size)
        graph.metadata[CARD_ENTRY] = build_model_card(params, data.meta).model_dump_json()
        write_nir(file, graph)
    except ExportError as error:
        return {"nir_problem": str(error)}
    images, _ = next(spaced(data.test, VERIFIED).batches(VERIFIED))
    predictions, spikes, _ = nir_agreement(net, read_nir(file), data.meta.normalise(images))
    return {
        "nir_agreement": predictions,
        "nir_spike_agreement": spikes,
        "nir_bytes": file.stat().st_size,
    }


def build_model_card(params: Params, meta: Meta) -> ModelCard:
    """The description of the exported network for its users."""
    images = meta.model_dump(include={"class_names", "in_channels", "image_size", "mean", "std", "events"})
    network = params.network
    return ModelCard(network=network.name, n_genes=network.n_genes, T=network.T, **images)


def registered_name(params: Params, meta: Meta) -> str:
    """The name under which MLflow registers the model: data set, network (an own one by its class) and number of genes, if
    that is not searched: every run would have a name of its own."""
    of_search = params.evolve.searches and "n_genes" in params.searched_genes()
    genes = "-plain" if params.network.n_genes is None else "" if of_search else f"-g{params.network.n_genes}"
    network = params.network.name
    network = network.rpartition(":")[2].lower() if is_own(network) else network
    return re.sub(r"[^\w.-]+", "-", f"gee-{meta.dataset}-{network}{genes}", flags=re.ASCII)


def main() -> None:
    with stage("export") as s:
        s = s.evolved()
        set_up_gpu(Compute.of(s.params.base.device, "fp32").device)
        data, cfg, network = prepared_images(), s.params.export, s.params.network
        measured, searched = read_metrics("evaluate", Evaluation), read_metrics("evolve", Searched)
        net = load_trained(s.params, data.meta)
        name, measured_files = write_all(ONNX.parent, s.params, net, data, searched, measured)
        s.run.note(cfg.model_dump())
        write_json(OUT / "metrics.json", measured_files.model_dump(exclude_none=True))
        if name is None:
            console.print(f"export: no ONNX, and no model in MLflow: {measured_files.problem}", soft_wrap=True)
            return
        metrics = measured.model_dump() | measured_files.model_dump(exclude_none=True, exclude={"nir_problem"})
        base = s.params.train.init_from if measured_files.update_bytes is not None else None
        params = {"network": network.name, "variant": s.params.evolve.variant, "seed": s.params.base.seed}
        exported = ExportedModel(
            name=name,
            is_registered=cfg.register_model,
            dataset=data.meta.dataset,
            digest=data.meta.digest,
            metrics={name: value for name, value in metrics.items() if value is not None},
            params=as_texts(params | network.model_dump(include={"n_genes", "width", "T"})),
            time=now_ms(),
            base=base,
        )
        s.run.model(ONNX.parent, [*FILES, *(other for other in OTHERS if (ONNX.parent / other).is_file())], exported)


if __name__ == "__main__":
    main()
