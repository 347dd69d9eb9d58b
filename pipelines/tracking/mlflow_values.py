"""Values in the forms in which MLflow stores them."""

import math


def flattened(values: dict, prefix: str = "") -> dict:
    """The values of nested dicts by their keys, joined by dots."""
    found: dict = {}
    for key, value in values.items():
        found |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def texts(values: dict) -> dict[str, str]:
    """``values`` as strings, as MLflow stores parameters and tags."""
    return {key: str(value) for key, value in values.items()}


def finite_metrics(metrics: dict) -> tuple[dict[str, float], dict[str, str]]:
    """The finite metrics, and a tag that names the others: the store would keep NaN as 0."""
    finite = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
    lost = [name for name in metrics if name not in finite]
    return finite, {"not_finite": ", ".join(lost)} if lost else {}
