"""docs/figures/: the committed figures are those that the script draws."""

import xml.etree.ElementTree as ET

import pytest


@pytest.fixture(scope="module")
def drawn(hook) -> dict[str, str]:
    return hook("figures/draw").draw()


def test_the_committed_figures_are_what_the_script_draws(drawn, root):
    committed = {path.name: path.read_text(encoding="utf-8") for path in (root / "docs/figures").glob("*.svg")}
    assert committed == drawn


def test_every_figure_has_a_label_and_loads_nothing(drawn):
    for text in drawn.values():
        svg = ET.fromstring(text)
        assert svg.get("aria-label")
        assert not [element for element in svg.iter() if "href" in " ".join(element.keys())]


def test_every_text_lies_inside_its_figure(drawn):
    for name, text in drawn.items():
        svg = ET.fromstring(text)
        _, _, width, height = map(float, svg.get("viewBox").split())
        for element in svg.iter("{http://www.w3.org/2000/svg}text"):
            letters = "".join(element.itertext())
            half = 0.26 * float(element.get("font-size")) * len(letters)
            x = float(element.get("x")) + {"start": half, "middle": 0, "end": -half}[element.get("text-anchor")]
            assert x - half >= 0 and x + half <= width and 0 < float(element.get("y")) < height, (name, letters)
