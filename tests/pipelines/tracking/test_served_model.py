"""The model that MLflow serves answers as `gee predict` does, and says what is wrong with other input."""

import ast
import base64
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gee_core.data import pixels
from pipelines.commands.prediction import open_model, predict
from pipelines.tracking import mlflow_models
from pipelines.tracking.mlflow_models import FILES, OTHERS
from tests.pipelines.tracking.models import SIZE, write_exported
from tests.project_copy import run

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def exported(request, tmp_path_factory) -> Path:
    path = write_exported(tmp_path_factory.mktemp("exported"), request.param)
    if request.param == 1:
        for name in OTHERS:
            path.with_name(name).write_bytes(b"a graph, genes")
    return path


def seen_in_the_example(exported: Path) -> str:
    """The class that `gee predict` names."""
    return predict(exported.parent, [Path("example.png")], open_model(exported))[0].top[0][0]


def saved(exported: Path) -> Path:
    folder = exported.parent / "served"
    if not folder.exists():
        files = {name: file for name in (*FILES, *OTHERS) if (file := exported.with_name(name)).is_file()}
        mlflow_models.save_served_model(files, str(folder), "r", "m")
    return folder


@pytest.fixture(scope="module")
def model(exported):
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(saved(exported)))


@pytest.fixture(scope="module")
def post(model):
    """Does what the server of `mlflow models serve` does with a request; the status and the answer."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations

    def send(body: object) -> tuple[int, dict]:
        try:
            answer = invocations(json.dumps(body).encode(), "application/json", model, model.metadata.get_input_schema())
        except MlflowException as error:
            return error.get_http_status_code(), json.loads(error.serialize_as_json())
        return answer.status, json.loads(answer.response)

    return send


def picture(mode: str, width: int, height: int) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (height, width), dtype=np.uint16))
    return Image.fromarray(RNG.integers(0, 256, (height, width, 4), dtype=np.uint8)).convert(mode)


def in_base64(image: Image.Image, form: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, form)
    return base64.b64encode(file.getvalue()).decode()


def test_a_posted_image_gets_the_answer_of_gee_predict(exported, post, tmp_path):
    images = [picture(m, *size) for m in ("L", "RGBA", "P", "I;16") for size in ((SIZE, SIZE), (9, 17), (30, 3))]
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    files = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    status, answer = post({"dataframe_records": [{"image": file} for file in files]})
    assert status == 200
    for prediction, row in zip(predict(Path(), paths, open_model(exported)), answer["predictions"], strict=True):
        ((name, probability),) = prediction.top
        assert (row["class"], row["probability"]) == (name, pytest.approx(probability, rel=1e-5))
        assert row["probabilities"][name] == row["probability"] == max(row["probabilities"].values())
        assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_an_array_gets_the_answer_of_its_image_whatever_its_size_and_channels(model):
    shapes = [
        *((mode, size) for mode in ("L", "RGB", "RGBA") for size in ((SIZE, SIZE), (9, 17))),
        ("L", (1, 9)),
        ("L", (3, 9)),
    ]
    arrays = [np.asarray(picture(mode, *size)) for mode, size in shapes]
    files = [base64.b64decode(in_base64(Image.fromarray(array))) for array in arrays]
    expected = model.predict(pd.DataFrame({"image": files}))
    assert expected["class"].nunique() > 2
    with_channels = [a[:, :, None] if a.ndim == 2 else a for a in arrays]  # needed where a grey one is 1, 3 or 4 wide
    for given, n in ((arrays, 6), ([array.tolist() for array in arrays], 6), (with_channels, 8)):
        pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"image": given[:n]})), expected[:n])
    batch = np.stack([arrays[0], arrays[0].T])
    assert model.predict({"image": batch})["class"].tolist() == [expected["class"][0], *classes(model, batch[1])]


def classes(model, *images) -> list[str]:
    return model.predict(pd.DataFrame({"image": list(images)}))["class"].tolist()


def test_answers_assigned_to_a_long_shuffled_table_stand_beside_their_images(model):
    images = [np.eye(1, SIZE * SIZE, i % 16, np.uint8).reshape(SIZE, SIZE) * 255 for i in range(160)]
    table = pd.DataFrame({"image": images, "label": [f"pixel {i % 16}" for i in range(160)]})
    table = table.sample(frac=1, random_state=0)[:150]
    table["class"] = model.predict(table[["image"]])["class"]
    assert table["class"].tolist() == table["label"].tolist()


def test_every_form_of_request_is_understood(post):
    file = in_base64(picture("L", 5, 5))
    again = post({"dataframe_records": [{"image": np.asarray(Image.open(io.BytesIO(base64.b64decode(file)))).tolist()}]})
    split = {"dataframe_split": {"columns": ["image"], "data": [[file]]}}
    for body in (split, {"instances": [{"image": file}]}, {"inputs": {"image": [file]}}, {"inputs": {"image": file}}):
        assert post(body) == again
    assert len(again[1]["predictions"]) == 1


BAD = {
    "text": (base64.b64encode(b"hello").decode(), "not a readable image"),
    "no base64": ("not base64!", "base64"),
    "a GIF": (in_base64(picture("L", 8, 8), "GIF"), "not a readable image"),
    "normalised": ([[0.5, -1.2], [0.1, 0.0]], "an array of type float64"),
    "too bright": ([[0, 256], [1, 2]], "values outside 0 to 255"),
    "a row": ([1, 2, 3], "an array of shape (3,)"),
    "channels first": ([[[1, 2], [3, 4]]] * 3, "an array of shape (3, 2, 2)"),
    "ragged": ([[1, 2], [3]], "inhomogeneous"),
    "nothing": (None, "is of type float"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_with_one_clear_message(post, name):
    image, says = BAD[name]
    status, answer = post({"dataframe_records": [{"image": in_base64(picture("L", 8, 8))}, {"image": image}]})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    message = answer["message"].partition("Error: ")[2]
    assert message.startswith("image 1: ") and says in message
    assert message.endswith("whole numbers from 0 to 255") and "Traceback" not in answer["message"]
    assert "\n" not in message


def test_a_list_of_files_is_several_images_and_refused_in_a_table_of_rows(model, post):
    files = [in_base64(picture("L", 8, 8)) for _ in range(3)]
    expected = model.predict(pd.DataFrame({"image": files}))
    for body in ({"inputs": files}, {"inputs": {"image": files}}, {"dataframe_records": [{"image": files}]}):
        assert [row["class"] for row in post(body)[1]["predictions"]] == expected["class"].tolist()
    status, answer = post({"dataframe_records": [{"image": files[0]}, {"image": files[1:]}]})
    assert status == 400 and "image 1: an array of type <U" in answer["message"]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_that_stands_alone_is_refused_with_a_remedy(model, post, mode):
    image = np.asarray(picture(mode, 8, 8)).tolist()
    for body in ({"inputs": image}, {"instances": image}, {"inputs": {"image": image}}):
        status, answer = post(body)
        assert status == 400 and "as a row of an image is: wrap a single image in a list" in answer["message"]
    status, answer = post({"inputs": [image]})
    assert status == 200 and [row["class"] for row in answer["predictions"]] == classes(model, np.array(image, np.uint8))


def test_the_saved_model_has_an_example_a_signature_and_its_network_as_onnx(model, exported):
    import mlflow.onnx
    import onnx

    assert model.metadata.get_input_schema().input_names() == ["image"]
    assert model.metadata.get_output_schema().input_names() == ["class", "probability", "probabilities"]
    (answer,) = model.predict(model.metadata.load_input_example(str(saved(exported))))["class"]
    assert answer == seen_in_the_example(exported)
    assert mlflow.onnx.load_model(str(saved(exported))) == onnx.load(exported)


def test_gee_predict_reads_the_folder_of_a_model_of_mlflow_and_runs_none_of_its_code(exported, tmp_path):
    folder = Path(shutil.copytree(saved(exported), tmp_path / "model"))
    for code in (scripts := list(folder.rglob("*.py"))):
        code.write_text("raise SystemExit('run')\n")
    assert len(scripts) == 3
    (seen,) = predict(exported.parent, [Path("example.png")], open_model(folder / "artifacts"))
    assert seen.top[0][0] == seen_in_the_example(exported)


def test_the_requirements_are_what_the_code_imports(exported):
    names = set()
    for file in (mlflow_models.SERVED, mlflow_models.CLASSIFIER, Path(pixels.__file__)):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    required = {line.partition("==")[0] for line in (saved(exported) / "requirements.txt").read_text().splitlines()}
    assert {"pillow" if name == "PIL" else name for name in names - sys.stdlib_module_names} == required


@pytest.mark.slow
def test_the_model_answers_where_nothing_of_this_project_can_be_imported(tmp_path):
    exported = write_exported(tmp_path / "exported")
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['gee_core', 'pipelines', 'torch', 'torchvision', 'onnx'])\n"
        "import mlflow, pandas\n"
        f"model = mlflow.pyfunc.load_model({str(saved(exported))!r})\n"
        f"image = open({str(exported.with_name('example.png'))!r}, 'rb').read()\n"
        "print(model.predict(pandas.DataFrame({'image': [image]}))['class'][0])\n"
    )
    assert run(tmp_path, sys.executable, "-c", code).split("\n")[-2] == seen_in_the_example(exported)
