import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from gee_core.evolution.fitness import fitness
from pipelines.reporting import figures

NS = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


def candidates(n_generations=3, population=4, failed=()):
    rng = np.random.default_rng(0)
    rows = []
    for t in range(n_generations):
        for i in range(population):
            L_ce, R_T, R_S = rng.uniform(0.3, 0.9, 3)
            decay = np.exp(-t / 2)
            row = {"generation": t, "index": i, "seed": i, "status": "ok", "L_ce": L_ce, "R_T": R_T, "R_S": R_S}
            row |= {"fitness": fitness(L_ce, R_T, R_S, decay, 0.1, 0.2, "ste"), "lambda": decay}
            row |= {"proxy_accuracy": 1 - L_ce, "epochs": 2, "sigma_O": rng.uniform(0.1, 0.3)}
            rows.append(row | {f"sigma_{layer}": rng.uniform(0.1, 0.3) for layer in range(3)})
    table = pd.DataFrame(rows)
    table.loc[list(failed), ["fitness", "L_ce", "R_T", "R_S", "proxy_accuracy"]] = np.nan
    return table


def layers(decode=3e-4):
    names = ["stem.conv", "body.0.conv1", "head.2"]
    energies = {"energy_mj": [1e-3, 2e-3, 1e-5], "decode_energy_mj": [0, decode, 0]}
    return pd.DataFrame({"layer": names, "input_rate": [1, 0.2, 0.1], "output_rate": [0.2, 0.1, np.nan]} | energies)


def history(epochs=5):
    return pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": 1.0, "train_accuracy": 0.5})


NOISE = pd.DataFrame({"r": [0.0, 0.5, 0.5], "seed": [0, 0, 1], "accuracy": [0.9, 0.7, 0.8]})
CONFUSION = pd.DataFrame({"actual": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
WIRING = pd.DataFrame({"encoding": ["O", "X0"], "sigma": [0.1, 0.2], "analytic": [0.1, 0.1]})
DRAWN = {
    "fitness": lambda: figures.fitness_over_generations(candidates()),
    "fitness, some failed": lambda: figures.fitness_over_generations(candidates(failed=(0, 1, 2, 3))),
    "fitness, all failed": lambda: figures.fitness_over_generations(candidates(failed=range(12))),
    "fitness, thousands": lambda: figures.fitness_over_generations(candidates(2, 1000)),
    "components": lambda: figures.components(candidates(failed=(1,))),
    "components, all failed": lambda: figures.components(candidates(failed=range(12))),
    "plane": lambda: figures.candidates_plane(candidates(failed=(1,))),
    "plane, single": lambda: figures.candidates_plane(candidates(1, 1)),
    "plane, all failed": lambda: figures.candidates_plane(candidates(failed=range(12))),
    "wiring": lambda: figures.wiring_against_analytic(WIRING),
    "training": lambda: figures.training_curve(history().assign(val_accuracy=0.4)),
    "training, one epoch": lambda: figures.training_curve(history(1)),
    "energy": lambda: figures.energy_per_layer(layers()),
    "noise": lambda: figures.accuracy_over_noise(NOISE, 0.9),
    "confusion": lambda: figures.confusion_matrix(CONFUSION, ["a", "b"]),
    "confusion, 100 classes": lambda: figures.confusion_matrix(CONFUSION, ["a", "b", *map(str, range(98))]),
}


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(f"{NS}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_same_table_gives_the_same_svg_which_loads_nothing_and_has_no_date(name):
    svg = DRAWN[name]()
    assert svg == DRAWN[name]()
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert all(e.attrib[XLINK].startswith(("#", "data:")) for e in root.iter() if XLINK in e.attrib)
    assert "dc:date" not in svg and "<!--" not in svg


def test_every_reference_finds_its_id_and_two_figures_share_none():
    seen = set()
    for name in ("fitness", "plane", "energy", "confusion"):
        root = ET.fromstring(DRAWN[name]())
        ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
        assert len(ids) == len(set(ids)) and not seen & set(ids)
        assert {e.attrib[XLINK][1:] for e in root.iter(f"{NS}use")} <= set(ids)
        seen |= set(ids)


def test_common_fitness_puts_every_generation_at_the_last_lambda():
    table = candidates()
    expected = [fitness(r.L_ce, r.R_T, r.R_S, np.exp(-2 / 2), 0.1, 0.2, "ste") for r in table.itertuples()]
    np.testing.assert_allclose(figures.common_fitness(table), expected, rtol=1e-12)


def test_common_fitness_survives_a_lambda_that_has_faded_to_zero():
    table = candidates().assign(**{"lambda": 0.0})
    table["fitness"] = table["L_ce"]
    assert figures.common_fitness(table).equals(table["L_ce"])


def test_title_gives_the_best_fitness_of_the_first_and_last_generation():
    table = candidates()
    best = figures.common_fitness(table).groupby(table["generation"]).min()
    assert f"Best fitness {best[0]:.3f} → {best[2]:.3f} over 3 generations" in texts(figures.fitness_over_generations(table))


def test_failed_and_far_candidates_are_shown_at_the_rim_and_do_not_stretch_the_axis():
    table = candidates(failed=(5,))
    table.loc[2, ["L_ce", "fitness"]] += 1e6
    shown = texts(figures.fitness_over_generations(table))
    assert {"failed", "far above"} <= set(shown)
    assert not any("e6" in text or "000000" in text for text in shown)


def test_thousands_of_candidates_are_one_picture_in_a_small_file():
    svg = figures.candidates_plane(candidates(5, 1000))
    assert svg.count("<use") < 100 and len(svg) < 500_000


def test_confusion_matrix_counts_what_was_called_what():
    assert figures.confusion_counts(CONFUSION, ["a", "b"]).tolist() == [[1, 1], [0, 1]]
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


def test_an_eliminated_candidate_is_never_the_best_whatever_its_earlier_fitness():
    table = candidates()
    _, described = figures.fitness_over_generations.__wrapped__(table)
    table.loc[[1, 6], "epochs"] = 1
    table.loc[[1, 6], ["L_ce", "fitness"]] = -9.0
    assert figures.finished(table).tolist() == [row not in (1, 6) for row in range(12)]
    best = figures.common_fitness(table).where(figures.finished(table)).idxmin()
    assert best not in (1, 6)
    assert "-9" not in figures.fitness_over_generations.__wrapped__(table)[1]
    assert "-9" not in described
