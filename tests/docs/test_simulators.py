"""docs/simulators.md: its code runs as printed, and each simulator answers as the network does."""

import re

import pytest
import torch

import gee_core
from tests.gee_core.lively import awake


@pytest.fixture(scope="module")
def text(root):
    return (root / "docs/simulators.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_the_code_of_the_page_runs_and_every_simulator_answers_as_the_network_does(text, tmp_path, monkeypatch):
    for package in ("norse", "snntorch"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    build = gee_core.build_network  # whether its last neurons fire untrained depends on the genes that this torch draws
    images = torch.randn(16, 3, 16, 16)
    monkeypatch.setattr(gee_core, "build_network", lambda *args, **settings: awake(build(*args, **settings), images))
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    with torch.no_grad():
        for number, block in enumerate(blocks):
            exec(compile(block, f"simulators.md, block {number}", "exec"), names)
        expected = names["net"](names["images"]).mean(0)
        found = [names[name] for name in ("logits", "logits_norse", "logits_snntorch")]
        state, outputs = None, 0
        for _ in range(4):
            o, state = names["simulator"](names["images"], state)
            outputs = outputs + o / 4
    for logits in (*found, outputs):
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert expected.std(0).max() > 1e-3  # the images differ


@pytest.mark.parametrize(
    ("name", "settings"), [("cifarnet", {"v_reset": None}), ("resnet34", {})], ids=["soft reset", "pre-activation stem"]
)
def test_what_the_page_says_cannot_be_said_is_refused(name, settings, text):
    assert "| `network.v_reset: null` |" in text and "| `network.name: resnet34` with `block: pre`" in text
    with pytest.raises(gee_core.InputError, match="NIR has no"):
        gee_core.to_nir(gee_core.build_network(name, 5, 1, 16, width=1 / 32, **settings), 1, 16)
