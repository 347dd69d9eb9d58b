"""docs/tutorials/your-network.md: its code runs as printed, and its claims hold."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import nn
from typer.testing import CliRunner

import gee_core
from pipelines import cli
from tests.bad_inputs.test_own_network_cases import forgotten  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/tutorials/your-network.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page():
    """The names that the page's code leaves behind, and what it printed, under ``printed``."""
    names = {"__name__": "your_network", "printed": []}
    names["print"] = lambda *values: names["printed"].append(" ".join(map(str, values)))
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"your-network.md, block {number}", "exec"), names)
    return names


def fresh(page):
    """A fresh network of the page's class."""
    return page["MyNetwork"]()


def test_the_chain_is_the_three_convolutions_and_encoding_saves_parameters(page):
    assert page["chain"] == [page["net"].features[i] for i in (0, 3, 7)]
    assert page["printed"][0] == f"{page['before']} {page['after']}"
    assert page["others"] == {}
    assert page["after"] < page["before"] == sum(p.numel() for p in fresh(page).parameters())


def test_the_printed_error_is_the_one_in_the_comment(page):
    (comment,) = re.findall(r"print\(error\) +# (.*)", TEXT)
    assert page["printed"][-1] == comment


def test_the_shapes_in_the_comments_are_right(page):
    assert page["genome"].O.shape == (8, 8)
    assert [tuple(X.shape) for X in page["genome"].encodings()] == [(9, 32, 8), (9, 64, 8), (9, 64, 8)]


def test_the_loaded_and_the_decoded_network_compute_what_the_saved_one_does(page):
    outputs = []
    for name in ("genetic", "again", "plain"):
        net = page[name].eval()
        functional.reset_net(net)
        with torch.no_grad():
            outputs.append(net(page["steps"]))
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[0], outputs[1])


def test_the_registered_network_answers_with_every_step_and_its_energy_is_counted(page):
    assert page["outputs"].shape == (4, 2, 5)
    assert page["registered"].genome.channels == [32, 64, 64]
    assert [layer.steps for layer in page["activity"].layers] == [4, 4, 4, 4]


def network(*convs):
    return nn.Sequential(nn.Sequential(*convs)), list(convs)


def conv(i, o, k=3, groups=1):
    return layer.Conv2d(i, o, k, groups=groups)


@pytest.mark.parametrize("message", re.findall(r"^\| [^|]+ \| `([^`]+)` \|$", TEXT, flags=re.MULTILINE))
def test_every_message_of_the_table_is_one_that_encode_raises(message):
    good, good_convs = network(conv(3, 4), conv(4, 4))
    encoded = gee_core.encode(good, 2, convs=good_convs)
    norses = type("SequentialState", (nn.Sequential,), {})(conv(3, 4), conv(4, 4))
    cases = [
        (good, good_convs[:1], 2),
        (*network(conv(3, 4), conv(4, 4, groups=2)), 2),
        (*network(conv(3, 4), conv(8, 4)), 2),
        (*network(conv(3, 4), conv(4, 4), conv(4, 4, k=5)), 2),
        (good, network(conv(3, 4), conv(4, 4))[1], 2),
        (encoded, list(encoded[0]), 2),
        (good, good_convs, 0),
        (good, good_convs, 2, gee_core.Genotype(1.0, (1.0,))),
        (good, good_convs, 2, gee_core.Shape(slope=1.0)),
        (good, good_convs, 2, None, None),
        (norses, list(norses), 2),
    ]
    raised = []
    for net, convs, n_genes, *others in cases:
        with pytest.raises(ValueError) as caught:
            gee_core.encode(net, n_genes, convs=convs, **dict(zip(("wiring", "seed"), others, strict=False)))
        raised.append(str(caught.value))
    assert sum(message in text for text in raised) == 1


def test_the_example_is_copied_and_counted_as_the_page_says(tmp_path, monkeypatch, forgotten):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks").mkdir()
    copied, target = re.search(r"^    cp (\S+) (networks/\S+)$", TEXT, flags=re.MULTILINE).groups()
    shutil.copy(ROOT / copied, target)
    command = re.search(r"^    gee (count .*)$", TEXT, flags=re.MULTILINE)[1]
    run = [
        CliRunner().invoke(cli.app, [*command.split(), "--json", "--width", w], catch_exceptions=False) for w in ("1", "0.125")
    ]
    counted, narrow = (json.loads(result.stdout) for result in run)
    assert f"{100 * counted['ratio']:.1f} % of the plain" in TEXT and f"{100 * narrow['ratio']:.1f} % of its" in TEXT
    assert "width: 1.0" in TEXT and "--width" not in command
    assert counted["network"] == re.search(r"name: (networks\.\S+)", TEXT)[1]
    assert 0 < counted["ratio"] < 1
