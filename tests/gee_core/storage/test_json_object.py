import json

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from gee_core.storage.json_object import as_model, read_json_object


def test_what_was_written_is_what_is_read(tmp_path):
    values = {"a": [1, -2.5, None, True, "é"], "b": {"c": 2**63}}
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert read_json_object(tmp_path / "a.json") == values


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"[]", "not a JSON object"),
        (b"\xff", "utf-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "the number NaN, which is not finite"),
        (b'{"a": 1e999}', "the number 1e999"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
    ],
)
def test_what_is_no_plain_object_is_a_value_error_on_one_line(content, reason, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_json_object(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sides: tuple[int, ...]
    unit: str = "pixel"


def test_a_list_of_json_may_be_a_tuple():
    assert as_model({"sides": [1, 2]}, Size) == Size(sides=(1, 2))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "^lacks sides$"),
        ({"sides": ["1"]}, r"^sides\.0: Input should be a valid integer$"),
        ({"sides": [1], "a\nb": 1}, r"^a\\nb: Extra inputs are not permitted$"),
        (None, "^Input should be an object$"),
    ],
)
def test_what_is_no_such_model_is_a_value_error_on_one_line_that_names_the_place(values, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        as_model(values, Size)
    assert isinstance(caught.value.__cause__, ValidationError)
