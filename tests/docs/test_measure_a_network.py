"""docs/tutorials/measure-a-network.md: its code runs as printed."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs/tutorials/measure-a-network.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_of_the_page_counts_every_layer(capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    names = {"__name__": "measure_a_network"}
    exec(compile(block, "measure-a-network.md", "exec"), names)
    titles, first, second, last, total, spikes, energy, terms, not_counted = capsys.readouterr().out.splitlines()
    activity = names["activity"]
    assert "\n".join((titles, first, second, last, total, spikes)) == str(activity)
    assert energy == f"{activity.energy_mj(3.2, 0.1):.3g} mJ per image in 32-bit integers"
    assert [line.split()[:5] for line in (first, second, last)] == [
        ["0", "conv", f"{16 * 3 * 9 * 32**2:,}", "4", "real"],
        ["3", "conv", f"{32 * 16 * 9 * 32**2:,}", "4", "binary"],
        ["8", "fc", "1,280", "4", "real"],  # behind an average pool
    ]
    assert 0.02 < float(second.split()[5]) < 0.5 and float(last.split()[5]) > 0.005  # no layer is silent
    assert terms == str(activity.neurobench())
    assert not_counted == "{}"
