"""docs/figures/: the committed figures are those that the script draws."""

import pytest


@pytest.fixture(scope="module")
def drawn(hook) -> dict[str, str]:
    return hook("figures/draw").draw()


def test_the_committed_figures_are_what_the_script_draws(drawn, root):
    committed = {path.name: path.read_text(encoding="utf-8") for path in (root / "docs/figures").glob("*.svg")}
    assert committed == drawn
