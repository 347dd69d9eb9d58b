import json

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from gee_core.storage.json_object import as_model, read_json_object, read_sealed, seal, unseal, write_sealed


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


VALUES = {
    "place": (1, 2),
    "loss": 0.1 + 0.2,
    "nan": float("nan"),
    "σ": "a\nb\u2028",
    "nested": {"b": [1e-300, -0.0], "a": None},
}


def through_json(values):
    return json.loads(json.dumps(values))


def test_a_flip_of_any_bit_is_noticed_or_changes_no_value():
    assert repr(unseal(through_json(seal(VALUES)))) == repr(through_json(VALUES))
    text = json.dumps(seal(VALUES)).encode()
    for at in range(len(text)):
        for bit in range(8):
            flipped = text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :]
            try:
                values = unseal(json.loads(flipped))
            except ValueError:
                continue
            assert repr(values) == repr(through_json(VALUES))  # an escape or a number written in another way


def test_a_sealed_file_comes_back_and_a_missing_one_is_none(tmp_path, caplog):
    path = tmp_path / "result.json"
    assert read_sealed(path) is None
    write_sealed(path, {"a": 0.1, "b": [None]})
    assert read_sealed(path, "a", "b") == {"a": 0.1, "b": [None]}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1', "Expecting"),
        ('{"a": 2, "check": "0"}', "its checksum is another"),
        (json.dumps(seal({"b": 1})), "it lacks a"),
        ("\udcff", "codec can't decode"),
    ],
)
def test_a_damaged_file_is_named_in_a_warning_and_removed(text, reason, tmp_path, caplog):
    path = tmp_path / "result.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert read_sealed(path, "a") is None
    (message,) = caplog.messages
    assert message.startswith(f"{path}: damaged (")
    assert reason in message
    assert not path.exists()
