"""The report's tables of what is taken for what; the confusion table has columns ``actual`` and ``predicted``, class names."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipelines.figures.measurements import confusion_counts


def confusions(confusion: pd.DataFrame, class_names: Sequence[str], most: int = 5) -> list[dict]:
    """The ``most`` frequent mistakes: ``actual, predicted, count, of`` (test images of the actual class)."""
    counts = confusion_counts(confusion, class_names)
    of, n = counts.sum(axis=1), len(counts)
    counts[range(n), range(n)] = 0
    worst = (-counts).argsort(axis=None, kind="stable")[:most]
    return [
        {"actual": class_names[a], "predicted": class_names[p], "count": int(counts[a, p]), "of": int(of[a])}
        for a, p in (divmod(int(i), n) for i in worst)
        if counts[a, p]
    ]


def recognised(confusion: pd.DataFrame, class_names: Sequence[str]) -> list[dict]:
    """The classes with test images, the least recognised first: ``name, share`` (recognised, a fraction), ``of`` (images),
    and ``mistake``, the class that its images are most often taken for (None where all are recognised)."""
    counts = confusion_counts(confusion, class_names)
    of, right = counts.sum(axis=1), counts.diagonal().copy()
    np.fill_diagonal(counts, 0)
    wrong = counts.argmax(axis=1)
    rows = [
        {
            "name": class_names[k],
            "share": right[k] / of[k],
            "of": int(of[k]),
            "mistake": class_names[wrong[k]] if counts[k, wrong[k]] else None,
        }
        for k in range(len(counts))
        if of[k]
    ]
    return sorted(rows, key=lambda row: row["share"])
