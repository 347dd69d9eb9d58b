import json

import pytest

from gee_core.storage.json_object import read_json_object


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
        (b'{"a": -Infinity}', "the number -Infinity"),
        (b'{"a": 1e999}', "the number 1e999"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"a": 99999999999999999999}', "a number of 20 digits"),
    ],
)
def test_what_is_no_plain_object_is_a_value_error_on_one_line(content, reason, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_json_object(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
