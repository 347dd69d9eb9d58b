"""Formats of few bits: of exported genes, and of those that a network is trained for."""

from typing import Literal

from gee_core.config.section import Positive, Section

GeneFormat = Literal["fp32", "bf16", "int8", "int4"]
"""Formats of the matrices in a file of genes; integers have a scale per gene or per output channel."""


class Quantise(Section):
    """`train.quantise`: the last epochs of training see genes and weights as they are after rounding."""

    format: Literal["int8", "int4"]
    """The format that they are rounded to, as `export.genes` rounds them; gradients pass the rounding as if it were not there
    (straight-through)."""
    epochs: Positive
    """Number of the last epochs that do so, at most `train.epochs`."""
