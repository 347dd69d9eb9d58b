import pandas as pd

from pipelines.reporting.mistakes import confusion_counts, confusions, recognised

TABLE = pd.DataFrame({"actual": list("aabbbc"), "predicted": list("abccac")})


def test_the_images_are_counted_by_actual_and_predicted_class():
    assert confusion_counts(TABLE, ["a", "b", "c"]).tolist() == [[1, 1, 0], [1, 0, 2], [0, 0, 1]]


def test_mistakes_are_ordered_by_number():
    worst = {"actual": "b", "predicted": "c", "count": 2, "of": 3}
    assert confusions(TABLE, ["a", "b", "c"]) == [
        worst,
        {"actual": "a", "predicted": "b", "count": 1, "of": 2},
        {"actual": "b", "predicted": "a", "count": 1, "of": 3},
    ]
    assert confusions(TABLE, ["a", "b", "c"], most=1) == [worst]
    assert confusions(TABLE.assign(predicted=TABLE["actual"]), ["a", "b", "c"]) == []


def test_the_least_recognised_class_comes_first_and_one_without_images_is_left_out():
    assert recognised(TABLE, ["a", "b", "none", "c"]) == [
        {"name": "b", "share": 0.0, "of": 3, "mistake": "c"},
        {"name": "a", "share": 0.5, "of": 2, "mistake": "b"},
        {"name": "c", "share": 1.0, "of": 1, "mistake": None},
    ]
