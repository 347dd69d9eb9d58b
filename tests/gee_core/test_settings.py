import pytest

from gee_core.errors import InputError
from gee_core.settings import MOST, from_environment, one_of


@pytest.mark.parametrize(("value", "found"), [("3", 3), (" 2 ", 2), ("007", 7), (str(MOST), MOST), ("", 5), (None, 5)])
def test_a_whole_number_is_read_and_the_default_stands_in_for_none(value, found, monkeypatch):
    monkeypatch.delenv("X", raising=False)
    if value is not None:
        monkeypatch.setenv("X", value)
    assert from_environment("X", 5) == found


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", "²", "٣", str(MOST + 1), "9" * 5000])
def test_everything_else_is_refused_on_one_short_line(value, monkeypatch):
    monkeypatch.setenv("X", value)
    with pytest.raises(InputError, match=r"^X = .*: must be a whole number .*; unset it for the default, 5$") as caught:
        from_environment("X", 5)
    assert len(str(caught.value)) < 200


def test_a_default_that_depends_on_more_is_not_named(monkeypatch):
    monkeypatch.delenv("X", raising=False)
    assert from_environment("X", None) is None
    monkeypatch.setenv("X", "two")
    with pytest.raises(InputError, match=r"; unset it for the default$"):
        from_environment("X", None)


def test_a_choice_is_one_of_those_given_or_unset(monkeypatch):
    for value in ("on", " OFF ", ""):
        monkeypatch.setenv("X", value)
        one_of("X", ("on", "off"))
    monkeypatch.setenv("X", "of")
    with pytest.raises(InputError, match=r"^X = of: must be one of on, off; unset it for the default$"):
        one_of("X", ("on", "off"))
