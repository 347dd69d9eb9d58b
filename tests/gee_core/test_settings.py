import pytest

from gee_core.errors import InputError
from gee_core.settings import MOST, CoreSettings

DEFAULT = CoreSettings().loader_workers


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("GEE_COMPILE", "GEE_LOADER_WORKERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "found"), [("3", 3), (" 2 ", 2), ("007", 7), ("0", 0), (str(MOST), MOST), ("", DEFAULT), (" ", DEFAULT)]
)
def test_a_whole_number_is_read_and_a_blank_is_the_default(value, found, monkeypatch):
    assert CoreSettings.read().loader_workers == DEFAULT
    monkeypatch.setenv("GEE_LOADER_WORKERS", value)
    assert CoreSettings.read().loader_workers == found


@pytest.mark.parametrize("value", ["-1", "two", "٣", str(MOST + 1)])
def test_everything_else_is_refused_on_one_short_line_with_the_default(value, monkeypatch):
    monkeypatch.setenv("GEE_LOADER_WORKERS", value)
    message = rf"^GEE_LOADER_WORKERS = .*: must be a whole number from 0 to 4096; unset it for the default, {DEFAULT}$"
    with pytest.raises(InputError, match=message) as caught:
        CoreSettings.read()
    assert len(str(caught.value)) < 200


def test_a_switch_is_one_of_its_words_or_unset(monkeypatch):
    for value, compiled in (("1", "1"), (" 0 ", "0"), ("", "1")):
        monkeypatch.setenv("GEE_COMPILE", value)
        assert CoreSettings.read().compile == compiled
    monkeypatch.setenv("GEE_COMPILE", "yes")
    with pytest.raises(InputError, match=r"^GEE_COMPILE = yes: must be one of 0, 1; unset it for the default, 1$"):
        CoreSettings.read()
