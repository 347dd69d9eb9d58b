"""`train.init_from`: a plain checkpoint becomes genes, and bad ones become one message."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from gee_core.checkpoint import load, save
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.genome.encoding import decode, genome_of
from pipelines import train
from pipelines.evolve import genotype_file
from pipelines.inputs.init_from import encoded_network, init_from_files
from tests.pipelines.test_train_stage import write_genotype
from tests.pipelines.train_cases import SIGMAS

ANALYTIC = {"variant": "analytic"}  # what `train.init_from` needs


@pytest.fixture(scope="session")
def plain_checkpoint(digits, make_params, tmp_path_factory) -> Path:
    """A plain network, trained until it knows some digits."""
    params = make_params(
        network={"n_genes": None}, evolve={"variant": "analytic"}, train={"epochs": 20, "warmup_epochs": 1, "lr": 0.02}
    )
    data = load_prepared(digits)
    net, *_ = train.run(params, genotype_file(params, None), data, tmp_path_factory.mktemp("scratch"))
    path = tmp_path_factory.mktemp("plain") / "network.safetensors"
    save(path, net)
    return path


def test_training_starts_at_genes_that_approximate_the_weights_and_keeps_all_else(plain_checkpoint, digits, make_params):
    params, data = make_params(evolve=ANALYTIC, train={"init_from": str(plain_checkpoint)}), load_prepared(digits)
    net, errors = encoded_network(params, data.meta)
    plain = load(plain_checkpoint)
    assert genome_of(net).n_genes == 6
    decoded = dict(decode(net).named_parameters())
    for name, weight in plain.named_parameters():
        layer = name.removesuffix(".weight")
        error = ((decoded[name] - weight).norm() / weight.norm()).item()
        assert error == pytest.approx(errors.get(layer, 0.0), rel=1e-4)
    assert set(errors) == {f"body.{layer}.conv" for layer in (0, 2, 3, 5, 6, 8, 9)}
    assert all(0 < error < 1 for error in errors.values())


@pytest.mark.slow
def test_fine_tuning_begins_ahead_of_the_wiring_and_resumes_bit_for_bit(plain_checkpoint, digits, make_params, tmp_path):
    params = make_params(evolve=ANALYTIC, train={"init_from": str(plain_checkpoint), "lr": 1e-3})
    data = load_prepared(digits)
    for name in ("whole", "stopped", "wired"):
        (tmp_path / name).mkdir()
    net, rows, _, errors = train.run(params, SIGMAS, data, tmp_path / "whole")
    _, wired, *_ = train.run(make_params(train={"lr": 1e-3}), SIGMAS, data, tmp_path / "wired")
    assert rows[0]["train_loss"] < wired[0]["train_loss"] and errors

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(params, SIGMAS, data, tmp_path / "stopped", stop)
    resumed, again, *_ = train.run(params, SIGMAS, data, tmp_path / "stopped")
    assert again == rows
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in net.state_dict().items())


def test_the_stage_writes_each_layers_error_beside_its_metrics(plain_checkpoint, in_project, capsys):
    folder = in_project(evolve=ANALYTIC, train={"init_from": "inputs/network.safetensors", "epochs": 2})
    shutil.copytree(plain_checkpoint.parent, folder / "inputs")
    write_genotype(folder)
    train.main()
    metrics = json.loads((folder / "reports/train/metrics.json").read_text())
    errors = [value for key, value in metrics.items() if key.startswith("encoding_error/")]
    assert len(errors) == 7
    assert metrics["encoding_error"] == pytest.approx(sum(errors) / 7)
    shown = capsys.readouterr().err
    assert "relative error" in shown
    assert "body.9.conv" in shown


def test_a_checkpoint_that_is_no_use_is_refused_with_a_remedy(plain_checkpoint, trained, digits, make_params, tmp_path):
    meta, lost = load_prepared(digits).meta, tmp_path / "lost.safetensors"
    remedy = "name a network.safetensors of this network trained with network.n_genes = null, or null"
    for path, T, says in (
        (plain_checkpoint, 4, r".* another network .T is 2, not 4."),
        (trained, 2, r".* another network .n_genes is 6, not None."),
        (lost, 2, "not found"),
    ):
        params = make_params(
            evolve=ANALYTIC, train={"init_from": str(path)}, network={"name": "vgg16", "width": 1 / 16, "n_genes": 6, "T": T}
        )
        with pytest.raises(InputError, match=rf"^train\.init_from = {path}: {says}: {remedy}$"):
            encoded_network(params, meta)


def test_a_run_depends_on_both_files_of_the_checkpoint_which_lie_where_dvc_watches(
    plain_checkpoint, make_params, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(plain_checkpoint.parent, "inputs")
    params = make_params(evolve=ANALYTIC, train={"init_from": "inputs/network.safetensors"})
    assert init_from_files(params) == [Path("inputs/network.safetensors"), Path("inputs/network.json")]
    Path("inputs/network.json").unlink()
    with pytest.raises(InputError, match=r"train.init_from = inputs/network.safetensors: inputs/network.json: no such file"):
        init_from_files(params)
    for path in (str(plain_checkpoint), "models/train/network.safetensors"):
        with pytest.raises(InputError, match=r"not in the folder inputs/.* set train.init_from to inputs/network.safetensors"):
            init_from_files(make_params(evolve=ANALYTIC, train={"init_from": path}))
