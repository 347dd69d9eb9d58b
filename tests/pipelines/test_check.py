import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from gee_core.config import Params
from gee_core.config.prepare import DATASETS
from gee_core.errors import InputError
from pipelines import check
from pipelines.check import check_inputs
from pipelines.project.paths import CHECKED, CHECKED_INIT_FROM, CHECKED_START
from tests.pipelines.conftest import write_params
from tests.project_copy import ROOT, run


def test_all_that_params_name_being_there_it_writes_what_never_changes(in_project, make_params):
    (in_project() / "data/raw").mkdir()
    check.main()
    first = CHECKED.read_bytes()
    write_params(Path("params.yaml"), make_params(base={"seed": 3}))
    check.main()
    assert CHECKED.read_bytes() == first


def test_a_file_or_folder_that_is_not_there_is_named_with_its_key(in_project, make_params):
    (in_project() / "data/raw").mkdir()
    for section, key, value, reason in (
        ("prepare", "path", "nowhere", "no such folder: put the images there"),
        ("prepare", "path", "~/nowhere", "no such folder: write the whole path, since ~ and variables are not expanded"),
        ("prepare", "path", "params.yaml", "a file, not a folder: set "),
        ("evolve", "start", "inputs/nowhere.json", "cannot be read (No such file or directory): copy a genotype.json to it ("),
        ("train", "init_from", "inputs/a.safetensors", "inputs/a.safetensors: no such file: copy a file of genes there"),
    ):
        with pytest.raises(InputError) as caught:
            check_inputs(
                make_params(**{"evolve": {"variant": "analytic"} if key == "init_from" else {}, section: {key: value}})
            )
        assert str(caught.value).startswith(f"{section}.{key} = {value}: {reason}")


@pytest.mark.skipif(sys.platform != "linux", reason="the remedy has an option of GNU's cp")
@pytest.mark.parametrize("dataset", ["folder", "cifar10"])
def test_a_linked_class_folder_is_refused_and_what_the_remedy_says_is_taken(in_project, make_params, dataset):
    in_project()
    classes = [f"class {k}" for k in range(10)]
    for name in classes:
        for folder in (Path("elsewhere", name), Path("images/test", name)):
            folder.mkdir(parents=True)
            Image.new("L", (8, 8)).save(folder / "0.png")
    Path("images/train").mkdir()
    for name in classes:
        Path("images/train", name).symlink_to(f"../../elsewhere/{name}")
    Path("link").symlink_to("images")
    params = make_params(prepare={"dataset": dataset, "path": "link"})
    with pytest.raises(
        InputError, match=r"^link/train/class 0: is a link to a folder .as are 9 more., and DVC would"
    ) as caught:
        check_inputs(params)
    run(Path(), "sh", "-c", re.search("`(.+)`", caught.value.remedy)[1])
    check_inputs(make_params(prepare={"dataset": dataset, "path": "link-linked"}))
    assert Path("link-linked/train/class 9/0.png").is_symlink()


def test_images_that_torchvision_can_download_are_where_they_are_absent(in_project, make_params, monkeypatch):
    in_project()
    provided = []
    monkeypatch.setattr("gee_core.data.sources.open_torchvision", lambda *given, train: provided.append(given))
    params = make_params(prepare={"dataset": "cifar10", "path": "data/raw/cifar10"})
    check_inputs(params)
    assert Path("data/raw/cifar10").is_dir()
    folder = Path("data/raw/cifar10/cifar-10-batches-py")
    folder.mkdir()
    for name in DATASETS["cifar10"].files:  # a download may have broken off
        check_inputs(params)
        (folder / name).touch()
    assert provided == [("cifar10", Path("data/raw/cifar10"))] * 8
    check_inputs(params)
    assert len(provided) == 8


def test_torchvisions_files_are_not_streamed(in_project, make_params):
    in_project()
    batches = Path("data/raw/cifar10/cifar-10-batches-py")
    batches.mkdir(parents=True)
    (batches / "data_batch_1").touch()
    prepare = {"dataset": "cifar10", "path": "data/raw/cifar10", "stream": True, "image_size": 32}
    with pytest.raises(InputError, match=r"^prepare.stream = true: data/raw/cifar10 has no class folders in train/: set it"):
        check_inputs(make_params(prepare=prepare))


def test_it_looks_at_every_section_and_prepare_waits_for_it():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(stages["check"]["params"]) == set(Params.model_fields)
    assert set(stages["check"]["outs"]) == {str(path) for path in (CHECKED, CHECKED_START, CHECKED_INIT_FROM)}
    assert str(CHECKED) in stages["prepare"]["deps"]
    assert {"inputs", "networks"} == {dep for dep in stages["check"]["deps"] if not dep.startswith(("gee_core", "pipelines"))}
    assert [name for name in stages if str(CHECKED_START) in stages[name]["deps"]] == ["evolve"]
    assert [name for name in stages if str(CHECKED_INIT_FROM) in stages[name]["deps"]] == ["train", "export"]
    assert {name for name in stages if {"networks", "gee_core/zoo.py"} <= set(stages[name]["deps"])} == set(stages) - {
        "prepare"
    }


def test_what_evolve_and_train_wait_for_changes_with_the_named_files(in_project, make_params, monkeypatch):
    monkeypatch.setattr(check, "check_search", lambda params: None)  # whatever the file holds
    in_project()
    of_init_from = make_params(evolve={"variant": "analytic"}, train={"init_from": "inputs/net.safetensors"})
    ways = {CHECKED_START: make_params(evolve={"start": "inputs/old.json"}), CHECKED_INIT_FROM: of_init_from}
    for folder in ("data/raw", "inputs"):
        Path(folder).mkdir()
    found = []
    for changed in ("old.json", "old.json", "net.safetensors", "net.json", "another"):
        for name in ("old.json", "net.safetensors", "net.json"):
            (Path("inputs") / name).touch()
        with (Path("inputs") / changed).open("a") as file:
            file.write("more")
        found.append([])
        for path, params in ways.items():
            write_params(Path("params.yaml"), params)
            check.main()
            found[-1].append(path.read_text())
    starts, networks = zip(*found, strict=True)
    assert starts[0] != starts[1] == starts[2] == starts[3] == starts[4]
    assert networks[0] == networks[1]
    assert len(set(networks[1:4])) == 3
    assert networks[3] == networks[4]
    assert CHECKED_START.read_text() == "no file\n"
