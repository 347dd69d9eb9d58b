"""The report's part on the defects of hardware."""

import json

import pandas as pd
import pytest

from gee_core.config.hardware import DOMAINS
from pipelines.figures.hardware_defects import DEFECTS, accuracy_under_defects, defect_table
from pipelines.report import run
from tests.pipelines.figures.svg_checks import assert_same_bytes_and_self_contained, texts
from tests.pipelines.report_inputs import PARAMS, PLAIN, Page, make

ROWS = [
    *(("weights", s, draw, a - 0.02 * draw) for s, a in ((0.0, 0.9), (0.5, 0.8), (1.0, 0.5)) for draw in range(3)),
    *(("lost_step", s, 0, a) for s, a in ((0, 0.9), (1, 0.7))),
]


def test_every_domain_has_a_title_and_a_unit():
    assert tuple(DEFECTS) == DOMAINS


def test_without_rows_there_is_no_part_on_defects(tmp_path, no_figures):
    assert "Defects of hardware" not in make(tmp_path)[1]


def test_each_domain_that_was_run_has_a_panel_and_its_rows(tmp_path):
    _, html = make(tmp_path, hardware=ROWS)
    text = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    assert text.count("Defects of hardware") == 1 and "is left out" not in text
    middle, everything = text.split("Accuracy at a middle strength")[1].split("All 5 strengths as a table")
    assert "Noise on weights 0.5 σ over the weights’ RMS 78.0 % 76.0 % 80.0 %" in middle
    assert "Lost steps 1 steps of T 70.0 % 70.0 % 70.0 %" in middle and "Lost steps 0" not in middle
    assert all(f"Noise on weights {s} " in everything for s in ("0", "0.5", "1"))
    shown = [
        s for tag, attributes in Page(html).tags if tag == "svg" and (s := attributes["aria-label"]).endswith("of hardware.")
    ]
    assert shown == ["Test accuracy under 2 defects of hardware."]
    assert "Dropped spikes" not in text


@pytest.mark.parametrize("rows", [ROWS, []], ids=["beside others", "alone"])
def test_a_domain_that_a_plain_network_lacks_is_named_with_the_reason(rows, tmp_path, no_figures):
    make(tmp_path, PLAIN, plain=True, hardware=rows)
    path = tmp_path / "reports/robustness/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hardware_left_out": {"genes": "the network is <plain>"}}))
    run(PLAIN, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    assert "genes is left out: the network is <plain>." in Page((tmp_path / "reports/index.html").read_text()).text


def frame(rows):
    return pd.DataFrame(rows, columns=["domain", "strength", "draw", "accuracy"])


@pytest.mark.parametrize("domains", [("weights",), DOMAINS[:4], DOMAINS])
def test_the_figure_has_a_panel_per_domain(domains):
    rows = frame([(domain, s, draw, 0.9 - s / 2) for domain in domains for s in (0, 0.25, 1) for draw in (0, 1)])
    assert_same_bytes_and_self_contained(lambda: accuracy_under_defects(rows))
    shown = texts(accuracy_under_defects(rows))
    assert {DEFECTS[domain][0] for domain in domains} == {title for title, _ in DEFECTS.values()} & set(shown)
    assert shown.count("0.25") == len(domains)


def test_many_strengths_keep_their_labels_apart():
    shown = texts(accuracy_under_defects(frame([("stuck", s / 20, 0, 0.5) for s in range(20)])))
    assert [text for text in shown if text in {f"{s / 20:g}" for s in range(1, 20)}] == ["0.2", "0.4", "0.6", "0.8"]


def test_the_table_is_in_percent_of_the_draws():
    first = defect_table(frame(ROWS))[0]
    assert first == {
        **{"title": "Noise on weights", "unit": "σ over the weights’ RMS", "strength": 0.0, "middle": False},
        **{"mean": pytest.approx(0.88), "low": pytest.approx(0.86), "high": pytest.approx(0.9)},
    }


def test_the_shipped_params_measure_every_domain():
    assert PARAMS.robustness.hardware is not None and tuple(PARAMS.robustness.hardware.strengths()) == DOMAINS
