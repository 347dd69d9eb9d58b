import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from pipelines.commands.predict import predict
from pipelines.inputs.trained_network import load_trained


@pytest.fixture(scope="module")
def net(digits, make_params, trained):
    return load_trained(make_params(), load_prepared(digits).meta, trained)


@pytest.fixture
def model(exported, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(exported.parent, tmp_path / "export")) / "network.onnx"


@pytest.fixture
def images(digits, tmp_path) -> list[Path]:
    """The test digits as files."""
    paths = []
    for i, image in enumerate(load_prepared(digits).test.images):
        paths.append(tmp_path / f"{i:02}.png")
        Image.fromarray(image[0].numpy()).save(paths[-1])
    return paths


def test_classes_and_probabilities_are_the_networks_own(net, exported, images, digits):
    data = load_prepared(digits)
    with torch.no_grad():
        p = net(data.meta.normalise(data.test.images)).mean(0).softmax(1)
    found = predict(images, exported)
    assert [path for path, *_ in found] == images
    assert [name for _, name, _ in found] == [str(k) for k in p.argmax(1).tolist()]
    np.testing.assert_allclose([probability for *_, probability in found], p.max(1).values, atol=1e-4)
    assert len({name for _, name, _ in found}) > 2


def test_an_image_alone_gets_the_answer_that_it_gets_among_others(exported, images):
    together = predict(images[:3], exported)
    for path, name, probability in together:
        ((_, alone, its),) = predict([path], exported)
        assert (alone, its) == (name, pytest.approx(probability, abs=1e-5))


def test_a_larger_colour_image_is_brought_to_the_form_that_the_network_knows(exported, images, tmp_path):
    large = Image.open(images[0]).convert("RGB").resize((64, 64), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    ((_, name, _),) = predict([tmp_path / "large.png"], exported)
    assert name == predict(images[:1], exported)[0][1]


@pytest.mark.parametrize("lost", ["network.onnx", "meta.json", "both"])
def test_a_missing_model_is_refused_with_a_remedy(lost, model, images):
    for name in ("network.onnx", "meta.json"):
        if lost in (name, "both"):
            model.with_name(name).unlink()
    with pytest.raises(InputError, match="not found: `dvc repro export` makes it, `dvc pull` fetches it"):
        predict(images[:1], model)


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: b"not ONNX"], ids=["empty", "cut", "other"]
)
def test_a_damaged_model_is_refused_with_a_remedy(damage, model, images):
    model.write_bytes(damage(model.read_bytes()))
    with pytest.raises(InputError, match="damaged") as caught:
        predict(images[:1], model)
    assert str(model) in str(caught.value)
    assert "dvc repro" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"], ids=repr)
def test_a_damaged_description_of_the_model_is_refused_with_a_remedy(content, model, images):
    model.with_name("meta.json").write_bytes(content)
    with pytest.raises(InputError, match=r"meta\.json: damaged") as caught:
        predict(images[:1], model)
    assert "dvc repro" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"no image"], ids=["missing", "empty", "text"])
def test_a_file_that_is_no_image_is_refused_by_name(content, exported, images, tmp_path):
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"picture\.png"):
        predict([images[0], path], exported)
