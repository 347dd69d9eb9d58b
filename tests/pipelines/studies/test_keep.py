"""Trained networks of a study, exported and under DVC."""

import subprocess
import sys

import pytest

from gee_core.checkpoint import load
from gee_core.config import Params
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.storage.json_object import read_sealed
from pipelines import evaluate, export
from pipelines.project.paths import STUDY_STEPS
from pipelines.studies import keep
from pipelines.studies.cell import Cell
from tests.pipelines.studies.conftest import Ran

PLAIN = {"encoding": [{"label": "unencoded", "control": "plain"}]}


@pytest.fixture
def without_onnx(monkeypatch):
    """Files of ONNX are quick to make; the core's tests are about their bytes."""
    monkeypatch.setattr(export, "to_onnx", lambda *_: b"onnx")
    monkeypatch.setattr(export, "with_genes", lambda *_: b"onnx")
    monkeypatch.setattr(export, "with_card", lambda *_: b"onnx")
    monkeypatch.setattr(export, "compare", lambda *_: {"agreement": 1.0})


@pytest.fixture
def kept(project, run, without_onnx):
    """Runs the tiny study, one seed, and keeps its networks; returns their folders."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)

    def go(**changes):
        run(ran := Ran(), seeds=1, keep=True, published=[], **changes)
        return ran.folders

    return go


@pytest.mark.slow
def test_every_network_is_exported_with_its_card_and_dvc_has_them(kept, project, digits):
    folders = kept()
    assert [folder.name.rpartition("-")[0] for folder in folders] == ["genetic-seed0", "unencoded-seed0"]
    for folder in folders:
        files = {path.name for path in folder.iterdir()}
        assert files >= {"network.onnx", "network.nir", "network.safetensors", "network.json", "meta.json", "README.md"}
        result = read_sealed(folder / "result.json", "params", "metrics")
        data, net = load_prepared(digits), load(folder / "network.safetensors")
        params = Params.model_validate(result["params"])
        measured = evaluate.run(params, net, data)[0].model_dump()
        assert {name: result["metrics"][name] for name in measured} == measured
        card = (folder / "README.md").read_text()
        assert f"| accuracy | {measured['test_accuracy']:.2%} |" in card
        assert "gee predict --model" in card and "models:/" not in card and 'load("network.safetensors").eval()' in card
    assert "path: tiny" in (project / "models/studies/tiny.dvc").read_text()
    assert "up to date" in subprocess.run([sys.executable, "-m", "dvc", "status"], capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_network_is_kept_once_and_made_again_where_its_steps_or_settings_changed(kept):
    own = {"grid": {"encoding": [{"label": "genetic"}]}}
    [genetic] = kept(**own)
    before = (genetic / "network.safetensors").read_bytes()
    assert kept(**own) == []
    (genetic / "result.json").unlink()
    for trained in STUDY_STEPS.glob("train/*/network.safetensors"):
        trained.unlink()
    assert kept(**own) == [genetic]
    assert (genetic / "network.safetensors").read_bytes() == before
    [other] = kept(**own, set={"export.genes": "int8"})
    assert list(other.glob("genes.*"))
    assert read_sealed(other / "result.json", "params")["params"]["export"]["genes"] == "int8"
    assert kept(**own, set={"export.genes": "int8"}) == []


def test_the_name_of_a_folder_fits_whatever_the_labels_are(make_params, tmp_path):
    params, long = make_params(base={"seed": 2**31 - 1}), {"a": "a" * 275, "b": "b"}
    for columns in (long, {"a": "ä漢" * 100}, {"a": "genetic", "b": "T = 2"}):
        name = keep.folder_name(Cell("grid", columns, params, (), key="0123456789abcdef"))
        (tmp_path / name).mkdir()
        assert name.endswith("-seed2147483647-01234567")
    assert name == "genetic-T-=-2-seed2147483647-01234567"


def test_candidates_and_failed_cells_have_no_network(project, make_params, monkeypatch):
    monkeypatch.setattr(keep, "trained_network", lambda *_: pytest.fail("trained"))
    cells = [Cell("grid", {"a": "x"}, make_params(), (), candidate) for candidate in (0, None)]
    keep.keep_networks("tiny", [(cells[0], {"status": "ok"}), (cells[1], {"status": "failed: diverged"})], ran := Ran())
    assert ran.folders == []


@pytest.mark.slow
def test_a_refusal_of_dvc_is_one_message_and_the_networks_stay(project, run, without_onnx):
    with pytest.raises(InputError, match=r"^`dvc add models/studies/tiny`: you are not inside of a DVC repository"):
        run(seeds=1, keep=True, published=[], grid=PLAIN)
    assert len(list((project / "models/studies/tiny").glob("unencoded-seed0-*/network.onnx"))) == 1
