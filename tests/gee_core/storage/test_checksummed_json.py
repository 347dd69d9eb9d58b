import json

import pytest

from gee_core.storage.checksummed_json import read_sealed, seal, unseal, write_sealed

VALUES = {
    "place": (1, 2),
    "loss": 0.1 + 0.2,
    "nan": float("nan"),
    "σ": "a\nb\u2028",
    "nested": {"b": [1e-300, -0.0], "a": None},
}


def through_json(values):
    return json.loads(json.dumps(values))


def test_what_was_sealed_comes_back_from_json():
    assert repr(unseal(through_json(seal(VALUES)))) == repr(through_json(VALUES))
    assert unseal(through_json(seal({}))) == {}


def test_a_flip_of_any_bit_is_noticed_or_changes_no_value():
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
