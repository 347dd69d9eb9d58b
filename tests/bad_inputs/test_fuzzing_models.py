"""A minute of damage by chance to genotypes, networks and images: reading it ends well or with InputError, and in time."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gee_core.checkpoint import load_tensors
from gee_core.data.meta import load_meta
from gee_core.data.prepared import load_prepared
from gee_core.model.network import build_network
from gee_core.snn.lif import SURROGATES
from gee_core.zoo import NETWORKS
from pipelines import train
from pipelines.commands.prediction import open_model, predict
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.init_checkpoint import encode_checkpoint
from pipelines.inputs.start_genotype import load_start
from pipelines.inputs.trained_network import load_trained
from pipelines.train import load_genotype
from tests.bad_inputs.damage import CHANGES, DAMAGE, changed, damaged, reads, tries

pytestmark = pytest.mark.slow
CHECKPOINT, GENOTYPE = Path("models/train/network.safetensors"), Path("models/evolve/genotype.json")
META, CARD = Path("data/prepared/meta.json"), Path("models/export/meta.json")


@tries(600)
@given(steps=DAMAGE)
def test_damaged_bytes_of_a_genotype(steps, good_genotype, project, make_params):
    GENOTYPE.write_bytes(damaged(json.dumps(good_genotype).encode(), steps))
    reads(load_genotype, GENOTYPE, make_params())
    shutil.copy(GENOTYPE, "old.json")
    reads(load_start, make_params(evolve={"start": "old.json"}), 8)


@tries(60)
@given(change=CHANGES)
def test_other_values_in_a_genotype_lead_to_a_training_or_a_message(change, good_genotype, project, make_params, prepared):
    GENOTYPE.write_text(json.dumps(changed(good_genotype, *change)))
    params = make_params(train={"epochs": 1, "warmup_epochs": 0})
    reads(lambda: train.run(params, load_genotype(GENOTYPE, params), prepared, Path("scratch-of-none")))
    shutil.rmtree("scratch-of-none", ignore_errors=True)


EXTREME = st.fixed_dictionaries(
    {
        "network": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(sorted(set(NETWORKS) - {"resnet34"})),
                "width": st.sampled_from([1e-9, 1 / 16, 0.1]),
                "n_genes": st.sampled_from([1, 2, 40]),
                "T": st.sampled_from([1, 3, 12]),
                "tau": st.sampled_from([1.0000001, 2.0, 1e6]),
                "v_threshold": st.sampled_from([1e-6, 1e6]),
                "v_reset": st.sampled_from([None, -1e6, 1e6, 0.0]),
                "surrogate": st.sampled_from(sorted(SURROGATES)),
                "surrogate_alpha": st.sampled_from([1e-6, 1e6]),
                "decay_input": st.booleans(),
                "detach_reset": st.booleans(),
            },
        ),
        "train": st.fixed_dictionaries(
            {"epochs": st.just(1), "warmup_epochs": st.just(0)},
            optional={
                "batch_size": st.sampled_from([1, 16, 2**31 - 1]),
                "lr": st.sampled_from([1e-3, 1e38]),
                "weight_decay": st.sampled_from([0.0, 1e6]),
                "optimizer": st.sampled_from(["adamw", "sgd"]),
                "loss": st.sampled_from(["ce", "tet"]),
                "tet_lambda": st.sampled_from([0.0, 1.0]),
                "label_smoothing": st.sampled_from([0.0, 0.999999]),
                "crop_padding": st.sampled_from([0, 64]),
                "randaugment": st.sampled_from([0, 30]),
                "erasing": st.sampled_from([0.0, 1.0]),
                "flip": st.booleans(),
                "quantise": st.sampled_from([{"format": "int4", "epochs": 1}, {"format": "int8", "epochs": 1}]),
                "lr_min": st.just(0.0),
                "cooldown": st.sampled_from([None, 1e-6, 1.0]),
            },
        ),
    }
)


@tries(40)
@given(sections=EXTREME)
def test_valid_extremes_lead_to_a_training_or_a_message(sections, project, make_params, prepared):
    params = make_params(**sections)
    sigma_X = (0.4,) * len(conv_chain(params, prepared))
    genotype = GenotypeFile(
        network=params.network.name,
        n_genes=params.network.n_genes,
        form="per_layer",
        sigma_O=0.3,
        sigma_X=sigma_X,
        seed=1,
    )
    reads(lambda: train.run(params, genotype, prepared, Path("scratch-of-none")))
    shutil.rmtree("scratch-of-none", ignore_errors=True)


def conv_chain(params, prepared) -> list:
    with torch.device("meta"):
        return build_network(params.network.name, 10, 1, prepared.meta.image_size, width=params.network.width).conv_chain()


@tries(300)
@given(steps=DAMAGE, which=st.sampled_from([CHECKPOINT, CHECKPOINT.with_suffix(".json")]))
def test_damaged_checkpoints_are_never_read(steps, which, good_checkpoint, project):
    for path, content in good_checkpoint.items():
        path.write_bytes(damaged(content, steps) if path == which else content)
    if reads(load_tensors, CHECKPOINT):
        assert which.suffix == ".json" or which.read_bytes() == good_checkpoint[which]


@tries(150)
@given(steps=DAMAGE, change=CHANGES, header_only=st.booleans())
def test_checkpoints_that_somebody_made_with_care(steps, change, header_only, good_checkpoint, project, make_params, prepared):
    content, about = good_checkpoint[CHECKPOINT], json.loads(good_checkpoint[CHECKPOINT.with_suffix(".json")])
    end = 8 + int.from_bytes(content[:8], "little") if header_only else len(content)
    content = damaged(content[:end], steps) + content[end:]
    about = changed(about, *change) | {"sha256": hashlib.sha256(content).hexdigest()}
    CHECKPOINT.write_bytes(content)
    CHECKPOINT.with_suffix(".json").write_text(json.dumps(about))
    reads(load_trained, make_params(), prepared.meta, CHECKPOINT)
    reads(encode_checkpoint, CHECKPOINT, 4, Path("out.safetensors"))


@tries(300)
@given(change=CHANGES)
def test_other_values_in_the_meta_of_images(change, good_meta, project):
    META.write_text(json.dumps(changed(good_meta, *change)))
    if reads(load_meta, META.parent):
        reads(load_prepared, META.parent)


@tries(200)
@given(change=CHANGES)
def test_other_values_in_the_card_of_a_model(change, good_card, project):
    CARD.write_text(json.dumps(changed(good_card, *change)))
    reads(lambda: predict(Path(), [Path("images/test/cat/0.png")], open_model(CARD.parent), top=3))


@pytest.fixture
def good_genotype(project):
    return json.loads(GENOTYPE.read_text())


@pytest.fixture
def good_checkpoint(project):
    return {path: path.read_bytes() for path in (CHECKPOINT, CHECKPOINT.with_suffix(".json"))}


@pytest.fixture
def good_meta(project):
    return json.loads(META.read_text())


@pytest.fixture
def good_card(project):
    return json.loads(CARD.read_text())


@pytest.fixture
def prepared(project):
    return load_prepared(META.parent)
