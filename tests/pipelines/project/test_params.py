"""params.yaml as a file: what cannot be read, and what is no YAML with sections. tests/test_params.py has bad values."""

import pytest

from gee_core.errors import InputError
from pipelines.project.params import FIX, load_params
from pipelines.project.safe_yaml import MOST_CHARACTERS, parse_yaml, read_yaml


def aliases(levels: int, first: str = "[1, 1]", each: str = "[{0}, {0}]") -> str:
    """A text whose values double with every level."""
    return "".join(f"k{i}: &k{i} {each.format(f'*k{i - 1}') if i else first}\n" for i in range(levels))


BOMB, MERGES = aliases(40), aliases(20, "{a: 1}", "{{<<: [{0}, {0}], b: 1}}")
LIMIT = f"not valid YAML (more than {MOST_CHARACTERS:,} characters in its values, those of aliases included): {FIX}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", f"must hold sections such as `base:`: {FIX}"),
        (b"- base\n", f"must hold sections such as `base:`: {FIX}"),
        (b"base:\n  seed: 0\n  seed: 1\n", "not valid YAML (while constructing a mapping"),
        (b"base: \x00\n", "not valid YAML (unacceptable character"),
        (b"title: caf\xe9\n", "not valid YAML ('utf-8' codec"),
        (b"a: !!python/object/apply:os.system [ls]\n", "not valid YAML (could not determine a constructor for the tag"),
        (b"a: 2024-13-01\n", "not valid YAML (month must be in 1..12)"),
        (b"[" * 1000, f"not valid YAML (maximum recursion depth exceeded): {FIX}"),
        (BOMB.encode(), LIMIT),
        (MERGES.encode(), LIMIT),
        (b"base:\n  seed: &s [*s]\n", LIMIT),
        (b"base: &b " + 999 * b"x" + b"\nnetwork: [" + 1000 * b"*b," + b"]\n", LIMIT),
        (None, "not found: run from the project folder, or write it with `gee preset use digits`"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_file_that_is_no_params_yaml_is_one_line_with_a_remedy(content, says, tmp_path):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_params(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {says}")
    assert "\n" not in message and len(message) < 700


def test_plain_values_aliases_and_merges_are_read_as_yaml_1_2(tmp_path):
    text = "a: &a {x: 1e-3, y: no}\nb: {<<: *a, z: 0o17}\nc: [*a]\n"
    (tmp_path / "a.yaml").write_text(text)
    x = {"x": 1e-3, "y": "no"}
    assert read_yaml(tmp_path / "a.yaml") == {"a": x, "b": x | {"z": 15}, "c": [x]}
    assert parse_yaml("") is None
