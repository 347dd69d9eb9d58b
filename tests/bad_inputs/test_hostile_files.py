"""Files that are made to run code."""

import hashlib
import io
import json
import os
import pickle

import numpy as np
import pytest

from gee_core.data.prepared import load_prepared
from tests.bad_inputs.case import param

RAN = "the-pickle-ran"


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (RAN,)


def array_of_objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Evil()], dtype=object), allow_pickle=True)
    return file.getvalue()


PICKLE = pickle.dumps(Evil())
HOSTILE = {"a pickle": PICKLE, "an .npy of objects": array_of_objects()}


@pytest.fixture(autouse=True)
def _nothing_runs(project):
    yield
    assert not (project / RAN).exists()


def test_the_pickles_of_these_tests_do_run_where_somebody_loads_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(PICKLE)
    assert (tmp_path / RAN).is_dir()


@pytest.mark.parametrize("content", HOSTILE)
def test_a_checkpoint_is_never_unpickled(content, project, run):
    path = project / "models/train/network.safetensors"
    path.write_bytes(HOSTILE[content])
    about = json.loads(path.with_suffix(".json").read_text()) | {"sha256": hashlib.sha256(HOSTILE[content]).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(about))
    code, _, err = run("evaluate")
    assert code == 2
    assert "evaluate: error: models/train/network.safetensors: damaged" in err


@pytest.mark.parametrize("content", HOSTILE)
def test_arrays_are_never_unpickled(content, project):
    folder, name = project / "data/prepared", "train_images.npy"
    (folder / name).write_bytes(HOSTILE[content])
    meta = json.loads((folder / "meta.json").read_text())
    meta["sha256"][name] = hashlib.sha256(HOSTILE[content]).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"magic string|Python objects|not an array"):
        load_prepared(folder)


def test_a_batch_of_cifar_is_unpickled_only_with_the_checksum_that_torchvision_knows(project, run, monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch", "batches.meta"):
        path = project / "raw/cifar-10-batches-py" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICKLE)
    for key, value in {"dataset": "cifar10", "path": "raw"}.items():
        param(f"prepare.{key}", value)(project)
    code, _, err = run("prepare")
    assert code == 2
    assert "absent or damaged in raw/cifar-10-batches-py" in err
