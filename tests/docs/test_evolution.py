"""docs/reference/evolution.md: its example runs as printed."""

import re

import pytest
import torch

import gee_core


@pytest.mark.slow
def test_the_example_evolves_and_draws_the_winner(root, monkeypatch):
    text = (root / "docs/reference/evolution.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(root)
    names = {"__name__": "evolution"}
    exec(compile(block, "evolution.md", "exec"), names)
    records, best, net, own = (names[name] for name in ("records", "best", "net", "own"))
    assert len(records) == 24
    assert max(record.score.proxy_accuracy for record in records) > 0.25
    same = gee_core.encode(own, 8, example=torch.zeros(4, 1, 8, 8), wiring=best.genotype, seed=best.seed)
    assert all(torch.equal(a, b) for a, b in zip(net.genome.encodings(), same.genome.encodings(), strict=True))
