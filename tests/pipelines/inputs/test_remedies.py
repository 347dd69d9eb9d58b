import pytest

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines.inputs.remedies import remedy
from pipelines.runtime.input_errors import SETTINGS, known_message


@pytest.mark.parametrize(("own", "expected"), [(None, "run `dvc repro`"), ("delete it", "delete it")])
def test_a_problem_gets_the_remedy_unless_it_has_its_own(own, expected):
    with pytest.raises(InputError) as caught, remedy("run `dvc repro`"):
        raise InputError("a.json: damaged", own)
    assert str(caught.value) == f"a.json: damaged: {expected}"


def test_arguments_of_the_core_are_named_as_the_settings_that_they_come_from():
    error = InputError("`opset` = 30: onnx knows none above 26", "set `opset` to 18, or `pip install onnx`")
    assert known_message(error) == "export.opset = 30: onnx knows none above 26: set export.opset to 18, or `pip install onnx`"


def test_every_setting_of_the_table_is_a_key_of_params_yaml():
    for key in SETTINGS.values():
        section, name = key.split(".")[:2]
        assert name in Params.model_fields[section].annotation.model_fields, key
