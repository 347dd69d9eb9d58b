import pytest

from pipelines.project.safe_yaml import parse_yaml, read_yaml


def test_plain_values_aliases_and_merges_are_read_as_yaml_1_2(tmp_path):
    text = "a: &a {x: 1e-3, y: no}\nb: {<<: *a, z: 0o17}\nc: [*a]\n"
    (tmp_path / "a.yaml").write_text(text)
    x = {"x": 1e-3, "y": "no"}
    assert read_yaml(tmp_path / "a.yaml") == {"a": x, "b": x | {"z": 15}, "c": [x]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "flow"),
        ("[" * 1000, "recursion"),
        ("2024-13-01", "month"),
        ("!!python/object/apply:os.system [ls]", "constructor"),
        ("a: 1\na: 2\n", r"found duplicate key .*line 2, column 1: a: 2 \^ \(line: 2\)$"),
    ],
)
def test_what_is_no_yaml_is_a_value_error_on_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
