"""Columns of the rows behind a study's figures, in whose place no label can stand."""

ROW_COLUMNS = {
    "noise": ("r", "accuracy"),
    "hardware": ("domain", "strength", "draw", "accuracy"),
    "layers": ("layer", "kind", "input_rate", "binary", "macs", "decode_macs", "decode_energy_mj", "output_rate"),
}
"""By the kind of the figure; those that are reserved in every study are left out."""
NOISE_DOMAINS = ("normalised", "image")
"""What the further column `domain` of the rows of noise holds: labels alike may stand there."""


def check_row_columns(labels: dict[str, list[str]], kinds: set[str]) -> None:
    """Raise ``ValueError`` if a column of labels has the name of one of the rows behind the figures of these ``kinds``.

    Args:
        labels: by column.
        kinds: those of the study's plots.
    """
    for kind, columns in ROW_COLUMNS.items():
        if kind in kinds and (hidden := set(columns) & set(labels)):
            raise ValueError(f"the column {min(hidden)!r} is one of {kind}.csv: give it another name")
    if "noise" in kinds and (other := set(labels.get("domain", [])) - {*NOISE_DOMAINS, ""}):
        remedy = f"give it another name, or the labels {' and '.join(NOISE_DOMAINS)}"
        raise ValueError(f"the column 'domain' is one of noise.csv, and {min(other)!r} is none of its values: {remedy}")
