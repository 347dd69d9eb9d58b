"""Trained networks of a study, exported and under DVC."""

import subprocess
import sys

import pytest

from gee_core.checkpoint import load
from gee_core.config import Params
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.storage.checksummed_json import read_sealed
from pipelines import evaluate, export
from pipelines.project.paths import STUDY_STEPS
from pipelines.studies import keep
from pipelines.studies.cell import Cell, Request
from pipelines.studies.study import run_study
from pipelines.studies.watch import Watch


class Kept(Watch):
    """Remembers what was kept."""

    def __init__(self):
        self.folders = []

    def kept(self, cell, folder):
        self.folders.append(folder)


@pytest.fixture
def without_onnx(monkeypatch):
    """Files of ONNX are quick to make; the core's tests are about their bytes."""
    monkeypatch.setattr(export, "to_onnx", lambda *_: b"onnx")
    monkeypatch.setattr(export, "with_genes", lambda *_: b"onnx")
    monkeypatch.setattr(export, "with_card", lambda *_: b"onnx")
    monkeypatch.setattr(export, "compare", lambda *_: {"agreement": 1.0})


@pytest.fixture
def run(project, write_study, without_onnx):
    """Runs the tiny study, one seed, and keeps its networks; returns their folders."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)

    def go(**changes):
        write_study(published=[], **changes)
        watch = Kept()
        run_study(Request("tiny", seeds=1), jobs=1, watch=watch, keep=True)
        return watch.folders

    return go


def test_every_network_is_exported_with_its_card_and_dvc_has_them(run, project, digits):
    folders = run()
    assert [folder.name.rpartition("-")[0] for folder in folders] == ["genetic-seed0", "unencoded-seed0"]
    for folder in folders:
        files = {path.name for path in folder.iterdir()}
        assert files >= {"network.onnx", "network.nir", "network.safetensors", "network.json", "meta.json", "README.md"}
        result = read_sealed(folder / "result.json", "params", "metrics")
        data, net = load_prepared(digits), load(folder / "network.safetensors")
        params = Params.model_validate(result["params"])
        measured = evaluate.run(params, net, data)[0]
        assert {name: result["metrics"][name] for name in measured} == measured
        card = (folder / "README.md").read_text()
        assert f"| accuracy | {measured['test_accuracy']:.2%} |" in card
        assert "gee predict --model" in card and "models:/" not in card and 'load("network.safetensors").eval()' in card
    assert "path: tiny" in (project / "models/studies/tiny.dvc").read_text()
    assert "up to date" in subprocess.run([sys.executable, "-m", "dvc", "status"], capture_output=True, text=True).stdout


def test_a_network_is_kept_once_and_made_again_where_its_steps_were_deleted(run):
    genetic, _ = run()
    before = (genetic / "network.safetensors").read_bytes()
    assert run() == []
    (genetic / "result.json").unlink()
    for trained in STUDY_STEPS.glob("train/*/network.safetensors"):
        trained.unlink()
    assert run() == [genetic]
    assert (genetic / "network.safetensors").read_bytes() == before


def test_other_parameters_are_kept_beside_them(run):
    first, other = run(), run(set={"train.lr": 0.002})
    assert len(other) == 2 and not set(first) & set(other)
    assert all((folder / "result.json").is_file() for folder in first)


def test_other_settings_of_the_export_write_the_network_again(run):
    sizes = []
    for genes in ("int8", "fp32", None):
        own = {"grid": {"encoding": [{"label": "genetic"}]}, "set": {"export.genes": genes}}
        (folder,) = run(**own)
        sizes.append(sum(file.stat().st_size for file in folder.glob("genes.*")))
        assert read_sealed(folder / "result.json", "params")["params"]["export"]["genes"] == genes
    assert sizes[1] > sizes[0] > sizes[2] == 0
    assert run(**own) == []


def test_the_name_of_a_folder_fits_whatever_the_labels_are(make_params, tmp_path):
    params, long = make_params(base={"seed": 2**31 - 1}), {"a": "a" * 275, "b": "b"}
    for columns in (long, {"a": "ä漢" * 100}, {"a": "genetic", "b": "T = 2"}):
        name = keep.folder_name(Cell("grid", columns, params, (), key="0123456789abcdef"))
        (tmp_path / name).mkdir()
        assert name.endswith("-seed2147483647-01234567")
    assert name == "genetic-T-=-2-seed2147483647-01234567"


def test_candidates_and_failed_cells_have_no_network(project, monkeypatch):
    monkeypatch.setattr(keep, "trained_network", lambda *_: pytest.fail("trained"))
    watch, results = Kept(), [("candidate", "ok"), (None, "failed: diverged")]
    monkeypatch.setattr(keep, "_add_to_dvc", lambda folder: pytest.fail("there is nothing to add"))
    monkeypatch.setattr(keep, "folder_name", lambda cell: "cell")

    class OneCell:
        def __init__(self, candidate):
            self.candidate = candidate

    keep.keep_networks("tiny", [(OneCell(candidate), {"status": status}) for candidate, status in results], watch)
    assert watch.folders == []


def test_what_dvc_refuses_is_one_message_and_the_networks_stay(project, write_study, without_onnx):
    write_study(published=[], grid={"encoding": [{"label": "unencoded", "control": "plain"}]})
    with pytest.raises(InputError, match=r"^`dvc add models/studies/tiny`: you are not inside of a DVC repository"):
        run_study(Request("tiny", seeds=1), jobs=1, keep=True)
    assert len(list((project / "models/studies/tiny").glob("unencoded-seed0-*/network.onnx"))) == 1
