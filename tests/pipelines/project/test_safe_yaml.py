import pytest

from pipelines.project.safe_yaml import MAX_CHARACTERS, MAX_MERGES, MAX_VALUES, parse_yaml, read_yaml


def test_plain_values_aliases_and_merges_are_read_as_yaml_1_2(tmp_path):
    text = "a: &a {x: 1e-3, y: no}\nb: {<<: *a, z: 0o17}\nc: [*a]\n"
    (tmp_path / "a.yaml").write_text(text)
    x = {"x": 1e-3, "y": "no"}
    assert read_yaml(tmp_path / "a.yaml") == {"a": x, "b": x | {"z": 15}, "c": [x]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "flow"),
        ("[" * 1000, "nested too deeply"),
        ("x" * (MAX_CHARACTERS + 1), "characters"),
        ("[" + "1," * (MAX_VALUES + 1) + "]", "values"),
        ("&a [*a]", "values"),
        ("<<: x\n" + "*a " * (MAX_MERGES + 1), "aliases together with merge keys"),
        ("0x" + "f" * 100, "a whole number of 400 bits"),
        ("2024-13-01", "month"),
        ("!!python/object/apply:os.system [ls]", "constructor"),
    ],
)
def test_what_is_no_yaml_or_too_large_is_a_value_error_on_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_twice_is_named_without_the_parsers_advice():
    with pytest.raises(ValueError, match="found duplicate key") as caught:
        parse_yaml("a: 1\na: 2\n")
    assert str(caught.value).endswith("line 2, column 1: a: 2 ^ (line: 2)")
