"""The figures of what was measured: training, energy, noise, mistakes and the defects of hardware."""

import re

import numpy as np
import pandas as pd
import pytest

from gee_core.config.params import DOMAINS
from pipelines.figures import measurements as figures
from pipelines.figures import search
from pipelines.figures.measurements import DEFECTS, accuracy_under_defects
from tests.pipelines.figures.svg_checks import assert_self_contained, texts


def layers(decode=3e-4):
    names = ["stem.conv", "body.0.conv1", "head.2"]
    energies = {"energy_mj": [1e-3, 2e-3, 1e-5], "decode_energy_mj": [0, decode, 0]}
    return pd.DataFrame({"layer": names, "input_rate": [1, 0.2, 0.1], "output_rate": [0.2, 0.1, np.nan]} | energies)


def history(epochs=5):
    rows = {"train_loss": 1.0, "train_accuracy": 0.5, "test_accuracy": np.nan, "test_loss": 2.0}
    table = pd.DataFrame({"epoch": range(1, epochs + 1)} | rows)
    table.loc[epochs - 1, "test_accuracy"] = 0.4
    return table


def defects(rows):
    return pd.DataFrame(rows, columns=["domain", "strength", "draw", "accuracy"])


NOISE = pd.DataFrame({"domain": "image", "r": [0.0, 0.5, 0.5], "seed": [0, 0, 1], "accuracy": [0.9, 0.7, 0.8]})
CONFUSION = pd.DataFrame({"actual": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
ALL = defects([(domain, s, draw, 0.9 - s / 2) for domain in DOMAINS for s in (0, 0.25, 1) for draw in (0, 1)])


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    """A figure of each kind."""
    return {
        "training": figures.training_curve(history()),
        "energy": figures.energy_per_layer(layers()),
        "noise": figures.accuracy_over_noise(NOISE, 0.9),
        "confusion": figures.confusion_matrix(CONFUSION, ["a", "b", "none"]),
        "hardware": accuracy_under_defects(ALL),
        "raster": figures.raster({"stem.conv": [[0, 1, 0, 1], [1] * 4], "head.2": [[0] * 4]}, layers()),
        "genes": search.genes({"O": [[0.1, -0.2]], "W_1": [[0.0]]}, {"genes": 12.3, "network.onnx": 80.0}),
    }


def test_equal_tables_give_equal_bytes_which_load_nothing_and_share_no_id(drawn):
    assert drawn["training"] == figures.training_curve(history())
    for svg in drawn.values():
        assert_self_contained(svg)
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in drawn.values()]
    assert len(set.union(*ids)) == sum(map(len, ids)) > 0


def test_of_one_step_every_second_neuron_has_its_integer_and_no_rate_is_a_percentage():
    shown = texts(figures.raster({"stem.conv": [[11], [5], [0]]}, layers().assign(output_rate=13.5)))
    assert {"11", "13.5", "events per neuron and step"} <= set(shown) and "firing rate (%)" not in shown


def test_the_confusion_matrix_shares_out_the_images_of_each_actual_class():
    table = pd.DataFrame({"actual": list("aaab"), "predicted": list("aabb")})
    assert figures.confusion_counts(table, ["a", "b"]).tolist() == [[2, 1], [0, 1]]
    assert {"67", "33"} <= set(texts(figures.confusion_matrix(table, ["a", "b"])))


def test_a_confusion_matrix_of_more_than_twenty_classes_is_one_picture():
    for n in (20, 21):
        names = [f"c{i}" for i in range(n)]
        table = pd.DataFrame({"actual": names * 3, "predicted": names + names[1:] + names[:1] + names[2:] + names[:2]})
        svg = figures.confusion_matrix(table, names)
        assert ("33" in texts(svg), svg.count("<image")) == (n == 20, 1 + (n == 21))  # one is the bar of colours


def test_names_are_shown_as_they_are():
    names = {"<b>x</b>": "<b>x</b>", "$\\frac$": "$\\frac$", 'a" id="b': 'a" id="b', "a\x00b\nc": "a�b�c", "日本": "日本"}
    names |= {"l" * 30: "l" * 17 + "…"}
    table = pd.DataFrame({"actual": list(names), "predicted": list(names)})
    drawn = texts(figures.confusion_matrix(table, list(names)))
    assert all(drawn.count(shown) == 2 for shown in names.values())
    long = [f"body.blocks.13.shortcut.{part}" for part in ("conv1", "conv2", "conv3")]
    assert set(long) <= set(texts(figures.energy_per_layer(layers().assign(layer=long))))


def test_titles_give_the_results(drawn):
    energy = [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts(drawn["energy"])]
    assert {"Computing: 3.01 µJ", "Building W: 300 nJ"} <= set(energy)
    assert not any("Building" in text for text in texts(figures.energy_per_layer(layers(decode=0))))
    assert "75.0 % at r = 0.5, 90.0 % clean" in texts(drawn["noise"])
    assert "50.0 % training accuracy after 1 epoch" in texts(
        figures.training_curve(history(1).drop(columns=["test_accuracy", "test_loss"]))
    )
    assert "40.0 % test accuracy after 5 epochs" in texts(drawn["training"])


def test_the_figure_of_defects_has_a_panel_per_domain_that_was_measured():
    shown = texts(accuracy_under_defects(ALL[ALL["domain"].isin(("weights", "stuck"))]))
    assert {DEFECTS[domain][0] for domain in ("weights", "stuck")} == {title for title, _ in DEFECTS.values()} & set(shown)
    assert shown.count("0.25") == 2
    assert tuple(DEFECTS) == DOMAINS
