"""The code of the pages runs as printed, and their claims hold."""

import ast
import importlib.util
import re

import pytest
import torch
from PIL import Image
from spikingjelly.activation_based import functional, neuron
from torch import nn

import gee_core
from tests.bad_inputs.test_own_network_cases import forgotten  # noqa: F401 - a fixture
from tests.gee_core.lively import awake
from tests.project_copy import ROOT


def run_page(name: str, *wanted: int) -> dict:
    """The names that the Python blocks of a page of docs/, or the ``wanted`` blocks, leave, and in ``printed`` their output."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    names: dict = {"__name__": "page", "printed": []}
    names["print"] = lambda *values: names["printed"].append(" ".join(map(str, values)))
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    for number in wanted or range(len(blocks)):
        if "import lightning" in blocks[number] and not importlib.util.find_spec("lightning"):
            continue  # GEE does not need it
        exec(compile(blocks[number], f"{name}, block {number}", "exec"), names)
    return names


@pytest.mark.slow
def test_the_example_of_evolution_evolves_and_draws_the_winner(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = run_page("reference/evolution.md", 0)
    records, best, net, own = (names[name] for name in ("records", "best", "net", "own"))
    assert len(records) == 28
    assert max(record.score.proxy_accuracy for record in records) > 0.25
    same = gee_core.encode(own, 8, example=torch.zeros(4, 1, 8, 8), wiring=best.genotype, seed=best.seed)
    assert all(torch.equal(a, b) for a, b in zip(net.genome.encodings(), same.genome.encodings(), strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("block", "package", "search"), [(1, "optuna", "Tpe"), (2, "nevergrad", "De")])
def test_another_optimiser_searches_and_goes_on_after_a_kill(block, package, search, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.chdir(ROOT)
    names = run_page("reference/evolution.md", 0, block)
    records = names["records"]
    known = {r.candidate.key: (r.score, 0.0) for r in records[:8]}
    again = gee_core.evolve(names["cfg"], names["space"], 0, names["score_all"], known, search=names[search]())
    assert len(records) == 32 and again == records


@pytest.mark.slow
def test_the_code_of_measure_a_network_counts_every_layer_and_plots_the_spikes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_page("tutorials/measure-a-network.md")
    activity = names["activity"]
    recorded = names["recorded"].values()
    assert [neurons.spikes.shape for neurons in recorded] == [(4, 8, 16, 32, 32), (4, 8, 32, 32, 32)]
    assert [neurons.spikes.mean().item() for neurons in recorded] == pytest.approx([c.output_rate for c in activity.layers[:2]])
    table, energy, terms, not_counted = names["printed"]
    assert table == str(activity) and not_counted == "{}" and terms == str(activity.neurobench())
    assert energy == f"{activity.energy_mj(3.2, 0.1):.3g} mJ per image in 32-bit integers"
    assert [(count.kind, count.macs, count.steps, count.binary) for count in activity.layers] == [
        ("conv", 16 * 3 * 9 * 32**2, 4, False),
        ("conv", 32 * 16 * 9 * 32**2, 4, True),
        ("fc", 1280, 4, False),  # after an average pool
    ]
    assert 0.02 < activity.layers[1].input_rate < 0.5 and activity.silent == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_every_simulator_answers_as_the_network_does(tmp_path, monkeypatch):
    for package in ("norse", "snntorch"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    build = gee_core.build_network  # whether its last neurons fire untrained depends on the genes that this torch draws
    images = torch.randn(16, 3, 16, 16)
    monkeypatch.setattr(gee_core, "build_network", lambda *args, **settings: awake(build(*args, **settings), images))
    with torch.no_grad():
        names = run_page("simulators.md")
        expected = names["net"](names["images"]).mean(0)
        found = [names[name] for name in ("logits", "logits_norse", "logits_snntorch")]
        state, outputs = None, 0
        for _ in range(4):
            o, state = names["simulator"](names["images"], state)
            outputs = outputs + o / 4
    for logits in (*found, outputs):
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert expected.std(0).max() > 1e-3  # the images differ


@pytest.mark.filterwarnings("default")  # Lightning, where it is installed, warns
def test_the_code_of_your_network_does_as_its_comments_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = run_page("tutorials/your-network.md")
    assert page["chain"] == [page["net"].features[i] for i in (0, 3, 7)] and page["others"] == {}
    assert page["printed"][0] == f"{page['before']} {page['after']}" and page["after"] < page["before"]
    assert sum(p.numel() for p in page["small"].parameters()) <= 0.4 * page["before"]
    assert page["genome"].O.shape == (8, 8)
    assert [tuple(X.shape) for X in page["genome"].encodings()] == [(9, 32, 8), (9, 64, 8), (9, 64, 8)]
    outputs = []
    for name in ("genetic", "again", "plain"):
        net = page[name].eval()
        functional.reset_net(net)
        with torch.no_grad():
            outputs.append(net(page["steps"]))
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])


def test_the_code_of_trained_networks_and_of_the_first_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 60), "green").save("photo.jpg")
    page = run_page("pretrained.md")
    photo, *batch = (ast.literal_eval(line) for line in page["printed"])
    assert [name for name, _ in batch[0]] == batch[1] and photo[0][0] in page["net"].card.class_names
    assert page["printed"][2:] == [str([page["net"].card.class_names[k] for k in page["logits"].argmax(1)])]
    page = run_page("index.md")
    assert page["net"].genome.n_genes == 64 and type(page["plain"].layer1[0].conv1) is nn.Conv2d


def test_the_code_of_own_networks_registers_an_example(forgotten):  # noqa: F811
    page = run_page("reference/own-networks.md")
    assert page["outputs"].shape == (4, 2, 5) and page["net"].genome.channels == [32, 64, 128, 128, 256]
    assert [layer.steps for layer in page["activity"].layers] == [4] * 6


def test_the_code_for_those_who_come_from_spikingjelly_runs():
    page = run_page("coming-from-spikingjelly.md")
    assert page["spikes"].shape == (4, 2, 64, 16, 16)
    lif, theirs = gee_core.LIF(), neuron.LIFNode()  # the defaults that the page names as equal
    assert (theirs.tau, theirs.decay_input, theirs.v_reset) == (lif.tau, lif.decay_input, lif.v_reset) == (2.0, True, 0.0)
    assert (theirs.step_mode, lif.step_mode) == ("s", "m")
