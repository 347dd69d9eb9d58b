import numpy as np
import pandas as pd
import pytest

from pipelines.figures import measurements as figures
from tests.pipelines.figures.svg_checks import (
    assert_references_are_found_and_no_id_is_shared,
    assert_same_bytes_and_self_contained,
    texts,
)


def layers(decode=3e-4):
    names = ["stem.conv", "body.0.conv1", "head.2"]
    energies = {"energy_mj": [1e-3, 2e-3, 1e-5], "decode_energy_mj": [0, decode, 0]}
    return pd.DataFrame({"layer": names, "input_rate": [1, 0.2, 0.1], "output_rate": [0.2, 0.1, np.nan]} | energies)


def history(epochs=5):
    return pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": 1.0, "train_accuracy": 0.5})


NOISE = pd.DataFrame({"r": [0.0, 0.5, 0.5], "seed": [0, 0, 1], "accuracy": [0.9, 0.7, 0.8]})
CONFUSION = pd.DataFrame({"actual": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
DRAWN = {
    "training": lambda: figures.training_curve(history().assign(val_accuracy=0.4)),
    "training, one epoch": lambda: figures.training_curve(history(1)),
    "energy": lambda: figures.energy_per_layer(layers()),
    "noise": lambda: figures.accuracy_over_noise(NOISE, 0.9),
    "confusion": lambda: figures.confusion_matrix(CONFUSION, ["a", "b"]),
    "confusion, 100 classes": lambda: figures.confusion_matrix(CONFUSION, ["a", "b", *map(str, range(98))]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_same_table_gives_the_same_svg_which_loads_nothing_and_has_no_date(name):
    assert_same_bytes_and_self_contained(DRAWN[name])


def test_every_reference_finds_its_id_and_two_figures_share_none():
    assert_references_are_found_and_no_id_is_shared(DRAWN[name]() for name in ("training", "noise", "energy", "confusion"))


def test_confusion_matrix_shows_what_was_called_what():
    shown = texts(figures.confusion_matrix(CONFUSION, ["a", "b"]))
    assert shown.count("50") == 2 and "100" in shown


def test_a_class_without_test_images_has_an_empty_row():
    svg = figures.confusion_matrix(CONFUSION, ["a", "b", "none"])
    assert "nan" not in svg.lower()


@pytest.mark.parametrize("n", [20, 21])
def test_confusion_matrix_has_numbers_up_to_twenty_classes(n):
    names = [f"c{i}" for i in range(n)]
    table = pd.DataFrame({"actual": names * 3, "predicted": names + names[1:] + names[:1] + names[2:] + names[:2]})
    assert ("33" in texts(figures.confusion_matrix(table, names))) == (n == 20)


def test_more_than_a_hundred_classes_are_put_together_in_blocks():
    names = [f"c{i}" for i in range(101)]
    shown = texts(figures.confusion_matrix(pd.DataFrame({"actual": names, "predicted": names}), names))
    assert "What is taken for what, in blocks of 2 neighbouring classes" in shown
    assert {"c0", "c4", "c100"} <= set(shown) and not {"c1", "c3"} & set(shown)


def test_layers_are_told_apart_by_their_names():
    names = [f"body.blocks.13.shortcut.{part}" for part in ("conv1", "conv2", "conv3")]
    assert set(names) <= set(texts(figures.energy_per_layer(layers().assign(layer=names))))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>x</script>", "<script>x</script>"),
        ("$\\frac$", "$\\frac$"),
        ('a" id="b', 'a" id="b'),
        ("a\x00b\nc", "a�b�c"),
        ("日本", "日本"),
        ("l" * 30, "l" * 17 + "…"),
    ],
)
def test_class_names_are_shown_as_they_are(name, shown):
    table = pd.DataFrame({"actual": [name], "predicted": [name]})
    assert texts(figures.confusion_matrix(table, [name])).count(shown) == 2


def test_energy_titles_are_the_sums_of_the_layers():
    shown = [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts(figures.energy_per_layer(layers()))]
    assert {"Computing: 3.01 µJ", "Building W: 300 nJ"} <= set(shown)


def test_a_plain_network_has_no_panel_for_building_weights():
    assert not any("Building" in text for text in texts(figures.energy_per_layer(layers(decode=0))))


def test_noise_title_gives_the_mean_at_half():
    assert "75.0 % at r = 0.5, 90.0 % clean" in texts(figures.accuracy_over_noise(NOISE, 0.9))


def test_training_title_prefers_the_held_out_accuracy():
    assert "50.0 % training accuracy after 1 epoch" in texts(figures.training_curve(history(1)))
    assert "40.0 % held-out accuracy after 5 epochs" in texts(figures.training_curve(history().assign(val_accuracy=0.4)))
