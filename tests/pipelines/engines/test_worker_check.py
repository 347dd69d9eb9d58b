import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.engines.worker_check import CODE, check_worker, own_requirements


@pytest.fixture
def own(make_params, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits, tmp_path / "data/prepared")
    return own_requirements([Path("data/prepared")], [make_params().base, make_params(base={"seed": 3}).base])


def test_a_process_agrees_with_itself_from_any_folder_and_goes_to_the_projects(own, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert check_worker(pickle.loads(pickle.dumps(own))) == "cpu float32"
    assert Path.cwd() == tmp_path
    assert own.images[0][0] == tmp_path / "data/prepared"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": CODE[::-1]}, "has another version of gee_core or pipelines: install the same one there"),
        ({"torch": "1.0 on Python 3.8"}, r"has torch .*, not 1\.0 on Python 3\.8: install the same one"),
        (
            {"variables": (("GEE_DETERMINISTIC", "1"),)},
            "has GEE_DETERMINISTIC = 0, not 1: start it with the value that the command has",
        ),
        ({"folder": Path("/no-such-mount")}, "cannot see the project folder /no-such-mount: mount the shared folder"),
        ({"images": ((Path("/no-such-mount/prepared"), "0"),)}, "cannot see /no-such-mount/prepared: mount the shared folder"),
        ({"bases": (("cuda:99", "fp32"),)}, "`device` = cuda:99"),
        (
            {"images": ((Path("data/prepared"), "0"),)},
            "sees other images in data/prepared: share the folder",
        ),
    ],
)
def test_what_differs_is_named_with_a_remedy(change, message, own):
    before = os.getcwd()
    with pytest.raises(InputError, match=f"^{message}"):
        check_worker(replace(own, **change))
    assert os.getcwd() == before
