"""The site: built without a warning, complete, and read without a network. Figures and tables of pages are up to date."""

import re

import pytest

from gee_core import __version__
from gee_core.config import Params

LOADED = r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\"\s>]+)|<link[^>]*rel=\"?(?:stylesheet|pre)[^>]*href=\"?([^\"\s>]+)"


@pytest.mark.slow
def test_every_page_has_a_title_and_loads_nothing_from_another_server(root, built_site):
    sources = [*(root / "docs").rglob("*.md"), *(root / "notebooks").glob("*.ipynb")]
    assert len(sources) > 20 and list(built_site.rglob("*.py")) == []
    for source in sources:
        base = root / "docs" if source.suffix == ".md" else root
        text = (built_site / source.relative_to(base).with_suffix(".html")).read_text(encoding="utf-8")
        assert re.search(r"<h1[^>]*>\s*\S", text), source
        loaded = ["".join(groups) for groups in re.findall(LOADED, text)]
        assert loaded and [url for url in loaded if re.match(r"(https?:)?//", url)] == []
    sheets = [sheet.read_text(encoding="utf-8") for sheet in built_site.rglob("*.css")]
    assert not any(re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet) for sheet in sheets)


@pytest.mark.slow
def test_settings_and_public_names_are_on_their_pages(built_site):
    settings = (built_site / "knobs.html").read_text(encoding="utf-8")
    assert "<code>evolve.proxy.epochs</code>" in settings and "<code>GEE_ENGINE</code>" in settings
    assert "<!--" not in settings.split("<article")[1]
    assert f"GEE {__version__}" in settings  # in the header
    assert 'id="gee_core.encode"' in (built_site / "reference/encoding.html").read_text(encoding="utf-8")
    assert 'href="encoding.html#gee_core.encode"' in (built_site / "reference/index.html").read_text(encoding="utf-8")


def test_the_committed_figures_are_what_the_script_draws(hook, root):
    committed = {path.name: path.read_text(encoding="utf-8") for path in (root / "docs/figures").glob("*.svg")}
    assert committed == hook("figures/draw").draw()


@pytest.fixture(scope="module")
def rows(hook) -> dict[str, list[str]]:
    """The other cells of every row of the page of settings, by the setting's name."""
    lines = [
        line.strip("|").replace("\\|", "¦").split("|") for line in hook("knobs").tables().splitlines() if line[:3] == "| `"
    ]
    return {name.strip(" `"): [cell.strip() for cell in cells] for name, *cells in lines}


def test_every_setting_has_a_row_with_its_range_its_meaning_and_its_value(hook, rows):
    for section, of_section in Params.model_fields.items():
        for key, field in of_section.annotation.model_fields.items():
            assert rows[f"{section}.{key}"][1] == hook("knobs").brief(field.description).replace("|", "¦")
    assert {"network.tau": ">1", "network.T": "1…64", "network.pool": "`max`, `avg`"}.items() <= {
        name: cells[0] for name, cells in rows.items()
    }.items()
    assert rows["base.seed"][2] == "`0`"
    assert hook("knobs").brief("A rate (Li et al. 2024). More; more. null: none.") == "A rate (Li et al. 2024); null: none"


def test_products_in_docstrings_are_no_emphasis(hook):
    escaped = hook("docstrings").escaped
    assert escaped("spikes (T*B, C) of (T*B, K)") == "spikes (T\\*B, C) of (T\\*B, K)"
    assert escaped("``k*k`` and *this*\n\n    k*k\n") == "``k*k`` and *this*\n\n    k*k\n"


def test_the_search_knows_american_spellings(hook):
    words = hook("search").american_words("Quantise grey images, otherwise normalised. Colours raise your optimism.")
    assert words == ["colors", "gray", "normalized", "quantize"]


def test_every_public_name_has_a_docstring_and_a_page(hook):
    reference = hook("reference")
    assert reference.gaps(reference.load(), reference.pages()) == []
    assert reference.gaps(reference.load(), {"gee_core.gone": "page.md"}) != []
