import math
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from scipy.stats import t as student

from pipelines.figures import studies as figures
from pipelines.figures.studies import Axis, defect_curve, noise_curve
from pipelines.figures.svg import log_axis

CELLS = pd.DataFrame(
    {
        "network": ["A", "A", "A", "A", "B & <C>", "B & <C>"],
        "genes": ["50", "50", "100", "100", "50", "50"],
        "seed": [0, 1, 0, 1, 0, 1],
        "test_accuracy": [0.5, 0.6, 0.7, 0.8, 0.4, 0.45],
        "parameters": [100, 100, 200, 200, 90, 90],
    }
)
LABELS = ["network", "genes"]
ACCURACY, PARAMETERS = Axis("test_accuracy", "test accuracy (%)", 100), Axis("parameters", "parameters", 1)
CALLS = {
    "bars": (ACCURACY, ["network"]),
    "line": ("genes", ACCURACY, ["network"]),
    "scatter": (PARAMETERS, ACCURACY, ["network"], LABELS),
}
NOISE = pd.DataFrame(
    [
        {"encoding": "genetic", "r": r, "network_seed": network, "accuracy": 0.9 - r / 2 + 0.1 * network + 0.01 * draw}
        for r in (0.0, 0.5)
        for network in (0, 1, 2)
        for draw in (0, 1)
    ]
)
HARDWARE = pd.concat(
    NOISE.rename(columns={"r": "strength"}).assign(encoding=encoding, domain=domain)
    for encoding, domain in [("genetic", "weights"), ("genetic", "genes"), ("unencoded", "weights")]
)


def drawn(name: str, *arguments) -> str:
    first, second = (getattr(figures, name)(*arguments) for _ in range(2))
    assert first == second
    ElementTree.fromstring(first)
    return first


def test_the_noise_band_is_students_interval_over_trained_networks_their_draws_averaged():
    curve = noise_curve(NOISE, ["encoding"])
    means = [0.65 + 0.1 * network + 0.005 for network in (0, 1, 2)]
    assert curve.loc[0.5, "mean"] == pytest.approx(sum(means) / 3)
    assert curve.loc[0.5, "half_width"] == pytest.approx(student.ppf(0.975, 2) * 0.1 / math.sqrt(3))
    assert curve.loc[0.5, "n"] == 3


def test_with_one_network_the_band_is_over_the_noise_draws():
    one = NOISE[NOISE["network_seed"] == 0]
    curve = noise_curve(one, ["encoding"])
    assert curve.loc[0.0, "half_width"] == pytest.approx(student.ppf(0.975, 1) * 0.01 / math.sqrt(2) / math.sqrt(2))
    assert noise_curve(one[::2], ["encoding"])["half_width"].isna().all()


def test_the_band_of_a_defect_is_the_deviation_of_the_networks_their_draws_averaged():
    rows = HARDWARE[HARDWARE["domain"] == "genes"]
    curve = defect_curve(rows, ["encoding"])
    assert list(curve.index) == [0.0, 0.5]
    assert curve.loc[0.5].to_dict() == pytest.approx({"mean": 0.755, "sd": 0.1, "low": 0.655, "high": 0.855})
    one = defect_curve(rows[rows["network_seed"] == 0], ["encoding"])
    assert one.loc[0.5].to_dict() == pytest.approx({"mean": 0.655, "sd": 0.0, "low": 0.655, "high": 0.655})


PAIRS = [(0, "A", 0.9), (0, "B", 0.1), (1, "A", 0.1), (1, "B", 0.9), (2, "A", 0.5), (2, "B", 0.5)]


def test_networks_of_one_seed_with_other_labels_are_networks_of_their_own():
    rows = pd.DataFrame(PAIRS, columns=["network_seed", "size", "accuracy"]).assign(domain="image", strength=0.5, r=0.5)
    sd = math.sqrt(4 * 0.4**2 / 5)
    assert defect_curve(rows, ["size"]).loc[0.5].to_dict() == pytest.approx(
        {"mean": 0.5, "sd": sd, "low": 0.5 - sd, "high": 0.5 + sd}
    )
    curve = noise_curve(rows, ["size", "domain"]).loc[0.5]
    assert curve.to_dict() == pytest.approx({"mean": 0.5, "n": 6, "half_width": student.ppf(0.975, 5) * sd / math.sqrt(6)})


@pytest.mark.parametrize("name", CALLS)
def test_figures_are_whole_xml_with_every_group_in_them(name):
    svg = drawn(name, CELLS, *CALLS[name])
    assert all(group in svg for group in ("A", "B &amp; &lt;C&gt;"))


def test_a_figure_without_columns_of_groups_has_one():
    assert ">all<" in drawn("scatter", CELLS, PARAMETERS, ACCURACY, [], LABELS)


@pytest.mark.parametrize(
    ("parameters", "axis", "groups"),
    [
        ([-1.0, -1.0, 0.0, 0.0, 2.0, 2.0], "parameters", ["A", "B"]),
        ([math.nan] * 4 + [90.0] * 2, "parameters (log)", ["B"]),
        ([math.nan] * 6, "parameters", []),
    ],
)
def test_the_axis_of_a_scatter_plot_is_called_logarithmic_where_it_is_and_a_group_without_marks_is_not_in_the_legend(
    monkeypatch, parameters, axis, groups
):
    scaled = []
    monkeypatch.setattr(figures, "log_axis", lambda *of: scaled.append(of) or log_axis(*of))
    cells = CELLS.assign(parameters=parameters).replace({"network": {"B & <C>": "B"}})
    svg = drawn("scatter", cells, *CALLS["scatter"])
    assert f">{axis}<" in svg
    assert bool(scaled) == axis.endswith("(log)")
    assert [name for name in ("A", "B") if f">{name}<" in svg] == groups


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$\\frac$", "a\nb\x1b[31m"])
def test_hostile_labels_are_text_in_a_figure(name):
    for kind, arguments in CALLS.items():
        root = ElementTree.fromstring(drawn(kind, CELLS.replace({"network": {"A": name}}), *arguments))
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {"svg", "g", "defs", "path", "use", "text", "style", "clipPath", "rect", "metadata", "image", "tspan"}
        assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]


def test_the_noise_figure_marks_published_numbers_as_published():
    svg = drawn("noise", NOISE, ["encoding"], ["encoding"], ["image"], [("TIC, S", [None, 0.7])])
    assert "published: TIC, S" in svg and "Accuracy under noise, image, 95 % confidence" in svg


def test_the_figure_of_defects_has_a_panel_for_each_and_every_group():
    svg = drawn("hardware", HARDWARE, ["encoding"], ["encoding"])
    for text in ("Noise on weights", "Noise on genes", "genetic", "unencoded"):
        assert svg.count(f">{text}<") == 1
    assert "Dropped spikes" not in svg


def test_the_layers_figure_has_every_layer():
    layers, encodings = ("stem.conv", "body.0.conv", "head.0"), ("genetic", "unencoded")
    rows = pd.DataFrame([{"encoding": e, "layer": layer} for e in encodings for layer in layers])
    svg = drawn("layers", rows.assign(energy_mj=1e-3, decode_energy_mj=0.0, input_rate=0.1), ["encoding"])
    assert all(name in svg for name in (*layers, "unencoded"))


def test_the_figure_of_kendalls_tau_has_a_panel_for_every_proxy_length():
    rows = [
        (E, 0, wiring, 1.0 + wiring, accuracy) for E in "15" for wiring in (0, 1) for accuracy in (0.1, 0.2)
    ]  # trained twice
    candidates = pd.DataFrame(rows, columns=["E", "seed", "candidate", "L_ce", "test_accuracy"])
    correlations = pd.DataFrame({"E": ["1", "5"], "fitness": ["baseline"] * 2, "tau": [-0.5, 0.25]})
    svg = drawn("fitness_against_accuracy", candidates, correlations)
    assert "accuracy of 2 candidates" in svg
    assert "E = 1: τ of L_ce -0.50" in svg
    assert "E = 5: τ of L_ce 0.25" in svg


def test_many_groups_can_be_told_apart():
    assert len({tuple(figures.look_of(place).values()) for place in range(49)}) == 49
