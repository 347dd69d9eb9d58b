import math

import pandas as pd
import pytest
from scipy.stats import t as student

from pipelines.figures import studies as figures
from pipelines.figures.studies import Axis, defect_curve, noise_curve
from tests.pipelines.figures.svg_checks import assert_self_contained, texts

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


def drawn(name: str, *arguments) -> list[str]:
    """The texts of a figure."""
    return texts(getattr(figures, name)(*arguments))


def test_the_noise_band_is_students_interval_over_trained_networks():
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
    both = pd.concat([rows, rows.assign(domain="events")])
    assert noise_curve(both, ["size", "domain"]).loc[0.5, "n"] == 6  # the same networks
    curve = noise_curve(rows, ["size", "domain"]).loc[0.5]
    assert curve.to_dict() == pytest.approx({"mean": 0.5, "n": 6, "half_width": student.ppf(0.975, 5) * sd / math.sqrt(6)})


KENDALL = pd.DataFrame(  # each wiring is trained twice
    [(E, 0, wiring, 1.0 + wiring, accuracy) for E in "15" for wiring in (0, 1) for accuracy in (0.1, 0.2)],
    columns=["E", "seed", "candidate", "L_ce", "test_accuracy"],
)
TAUS = pd.DataFrame({"E": ["1", "5"], "fitness": ["baseline"] * 2, "tau": [-0.5, 0.25]})
LAYERS = pd.DataFrame([{"encoding": e, "layer": layer} for e in ("genetic", "unencoded") for layer in ("stem.conv", "head.0")])
LAYERS = LAYERS.assign(energy_mj=1e-3, decode_energy_mj=0.0, input_rate=0.1)
ENCODING = ["encoding"]
DRAWN = {
    "bars": (CELLS, *CALLS["bars"]),
    "line": (CELLS, *CALLS["line"]),
    "scatter": (CELLS, *CALLS["scatter"]),
    "noise": (NOISE, ENCODING, ENCODING, ["image"], [("TIC, S", [None, 0.7])]),
    "hardware": (HARDWARE, ENCODING, ENCODING),
    "layers": (LAYERS, ENCODING),
    "fitness_against_accuracy": (KENDALL, TAUS),
}
SHOWN = {
    "bars": ["A", "B & <C>"],
    "line": ["A", "B & <C>"],
    "scatter": ["A", "B & <C>"],
    "noise": ["genetic", "published: TIC, S", "Accuracy under noise, image, 95 % confidence"],
    "hardware": ["Noise on weights", "Noise on genes", "genetic", "unencoded"],
    "layers": ["stem.conv", "head.0", "genetic", "unencoded"],
    "fitness_against_accuracy": ["E = 1: τ of L_ce -0.50", "E = 5: τ of L_ce 0.25"],
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_group_and_panel_is_in_the_figure_once(name):
    svg = getattr(figures, name)(*DRAWN[name])
    assert_self_contained(svg)
    assert [texts(svg).count(text) for text in SHOWN[name]] == [1] * len(SHOWN[name])
    assert "Dropped spikes" not in svg and (name != "fitness_against_accuracy" or "accuracy of 2 candidates" in svg)


def test_a_figure_without_columns_of_groups_has_one():
    assert "all" in drawn("scatter", CELLS, PARAMETERS, ACCURACY, [], LABELS)


@pytest.mark.parametrize(
    ("parameters", "axis", "groups"),
    [
        ([-1.0, -1.0, 0.0, 0.0, 2.0, 2.0], "parameters", ["A", "B"]),
        ([math.nan] * 4 + [90.0] * 2, "parameters (log)", ["B"]),
        ([math.nan] * 6, "parameters", []),
    ],
)
def test_the_axis_of_a_scatter_plot_is_logarithmic_where_it_can_be(parameters, axis, groups):
    cells = CELLS.assign(parameters=parameters).replace({"network": {"B & <C>": "B"}})
    shown = drawn("scatter", cells, *CALLS["scatter"])
    assert axis in shown and [name for name in ("A", "B") if name in shown] == groups


def test_hostile_labels_are_text_in_a_figure():
    names = {"A": "<script>alert(1)</script>", "B & <C>": "$\\frac$"}
    for kind, arguments in CALLS.items():
        assert set(names.values()) <= set(drawn(kind, CELLS.replace({"network": names}), *arguments))
    assert "a�b�[31m" in drawn("bars", CELLS.replace({"network": {"A": "a\nb\x1b[31m"}}), *CALLS["bars"])


def test_many_groups_can_be_told_apart():
    assert len({tuple(figures.look_of(place).values()) for place in range(49)}) == 49
