"""docs/tutorials/measure-a-network.md: its code runs as printed."""

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs/tutorials/measure-a-network.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_counts_every_layer(capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    names = {"__name__": "measure_a_network"}
    exec(compile(block, "measure-a-network.md", "exec"), names)
    energy, first, second, last, terms, not_counted = capsys.readouterr().out.splitlines()
    activity = names["activity"]
    assert energy == f"{activity.energy_mj(4.6, 0.9):.3g} mJ per image"
    assert [line.split()[:4] for line in (first, second, last)] == [
        ["0", "conv", str(16 * 3 * 9 * 32**2), "4"],
        ["3", "conv", str(32 * 16 * 9 * 32**2), "4"],
        ["8", "fc", "1280", "4"],
    ]
    assert (first.split()[4], second.split()[4]) == ("False", "True")
    assert 0.02 < float(second.split()[5]) < 0.5 and float(last.split()[5]) > 0.005  # no layer is silent
    assert terms == str(activity.neurobench())
    assert not_counted == "{}"
