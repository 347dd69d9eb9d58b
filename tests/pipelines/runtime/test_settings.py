from pathlib import Path

import pytest

from gee_core.errors import InputError
from gee_core.settings import PREFIX
from pipelines.runtime.settings import Settings

KNOBS = Path(__file__).resolve().parents[3] / "docs/knobs.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GEE_{name.upper()}", raising=False)


def test_the_page_of_the_knobs_has_the_table_of_the_docstrings():
    fields = Settings.model_fields.items()
    rows = [f"| `{PREFIX}{name.upper()}` | {' '.join((field.description or '').split())} |" for name, field in fields]
    table = "\n".join(["| variable | meaning |", "|---|---|", *rows])
    assert table in KNOBS.read_text(encoding="utf-8"), f"put this into docs/knobs.md:\n{table}"


def test_variables_are_read_when_they_are_asked_for(monkeypatch):
    for name, value in {"SAVE_SECONDS": "5", "TRACKING": "off", "ENGINE": " serial ", "DASK": " tcp://head:8786 "}.items():
        monkeypatch.setenv(f"GEE_{name}", value)
    settings = Settings.read()
    assert (settings.save_seconds, settings.tracking, settings.engine) == (5, "off", "serial")
    assert settings.dask == "tcp://head:8786"


def test_a_typing_error_of_a_variable_is_refused_and_the_variables_of_others_are_not(monkeypatch):
    monkeypatch.setenv("GEE_PROJECT", "that of Google Earth Engine")
    Settings.read()
    monkeypatch.setenv("GEE_WORKER", "9")
    with pytest.raises(InputError, match=r"^GEE_WORKER: no variable of this project: did you mean GEE_WORKERS\?"):
        Settings.read()
