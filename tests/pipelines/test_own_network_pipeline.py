"""The examples of own networks through the whole pipeline, as a user runs it in a copy of the project."""

import json
import sys

import pytest

from tests.project_copy import ROOT, commit, copy_project, run

TINY = {
    "prepare": {"max_train_images": 200, "max_test_images": 60},
    "evolve": {"n_generations": 1, "population_size": 2, "proxy_epochs": 1, "genotype": "per_layer", "rescore": None},
    "train": {"epochs": 2, "warmup_epochs": 1},
    "robustness": {"strengths": [0.0, 0.5], "n_seeds": 1},
}
GEE = (sys.executable, "-m", "pipelines.cli")
"""The command `gee` with the code in the folder where it runs, as the one installed from there would be."""
NAMES = {"spiking_vgg": "SpikingVGG", "spiking_resnet": "SpikingResNet"}


def project(folder, example, **changes):
    """A copy of the project with an example in networks/, which params.yaml names; its name there."""
    name = f"networks.{example}:{NAMES[example]}"
    sections = TINY | {"network": {"name": name, "n_genes": 6}}
    copy_project(folder, {section: keys | changes.get(section, {}) for section, keys in sections.items()})
    (folder / f"networks/{example}.py").write_text((ROOT / f"examples/{example}.py").read_text())
    commit(folder, "my network")
    return name


def stages_that_run(output):
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.mark.slow
def test_an_own_network_runs_genetic_once_and_again_only_after_an_edit_of_its_file(tmp_path):
    name = project(tmp_path, "spiking_vgg")
    printed = run(tmp_path, *GEE, "run", GEE_TRACKING="off")
    assert len(stages_that_run(printed)) == 8
    assert name in printed
    summary = json.loads((tmp_path / "reports/summary.json").read_text())
    assert summary["network"] == name
    assert summary["energy_mj"] > 0
    assert summary["onnx_agreement"] > 0.95
    assert (tmp_path / "models/export/README.md").is_file()
    assert stages_that_run(run(tmp_path, "dvc", "repro", GEE_TRACKING="off")) == []
    (tmp_path / "networks/another.py").write_text("x = 1\n")
    table = tmp_path / "gee_core/zoo.py"
    table.write_text(table.read_text() + 'NETWORKS["mine"] = NetworkSpec(8, (8, P, 8))\n')
    assert stages_that_run(run(tmp_path, "dvc", "repro", GEE_TRACKING="off")) == ["check"]
    file = tmp_path / "networks/spiking_vgg.py"
    file.write_text(file.read_text().replace("256)", "192)", 1))
    assert stages_that_run(run(tmp_path, "dvc", "repro", "train", GEE_TRACKING="off")) == ["check", "evolve", "train"]


@pytest.mark.slow
def test_a_plain_resnet_of_torchvision_runs_through_every_stage(tmp_path):
    name = project(tmp_path, "spiking_resnet", network={"n_genes": None}, evolve={"variant": "analytic"})
    run(tmp_path, *GEE, "run", GEE_TRACKING="off")
    summary = json.loads((tmp_path / "reports/summary.json").read_text())
    assert (summary["network"], summary["n_genes"]) == (name, None)
    assert summary["parameters"] == summary["plain_parameters"]
    assert stages_that_run(run(tmp_path, *GEE, "run", GEE_TRACKING="off")) == []
