"""docs/hooks/reference.py: every public name of the library is documented, and the reference shows it."""

import pytest


@pytest.fixture(scope="module")
def reference(hook):
    return hook("reference")


PACKAGE = {
    "__init__.py": '''
"""A package."""
from sample.tools import documented, undocumented
__all__ = ["documented", "undocumented"]
''',
    "tools.py": '''
"""Tools."""
import torch

def documented():
    """Does something.

    In detail.
    """

def undocumented(): ...

def _private(): ...

class Thing:
    """A thing."""
    def extra_repr(self): ...
    def method(self): ...

class Step(torch.autograd.Function):
    """A step."""
    @staticmethod
    def forward(ctx, x): ...
''',
    "silent.py": "x = 1\n",
}


@pytest.fixture
def sample(tmp_path, reference):
    (tmp_path / "sample").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "sample" / name).write_text(text.lstrip())
    return reference.load(tmp_path, "sample")


def test_nothing_public_is_undocumented_or_missing_in_the_reference(reference):
    package = reference.load()
    assert {"encode", "decode", "Genome", "load", "InputError"} <= set(reference.public_names(package))
    assert reference.gaps(package, reference.pages()) == []


def test_public_functions_classes_methods_and_modules_without_docstring_are_found(reference, sample):
    assert sorted(reference.undocumented(sample)) == [
        "sample.silent",
        "sample.tools.Thing.method",
        "sample.tools.undocumented",
    ]


def test_a_public_name_that_no_page_shows_is_a_gap(reference, sample):
    found = reference.gaps(sample, {"sample.undocumented": "page.md"})
    assert "sample.documented is on no page of docs/reference" in found
    assert "sample.undocumented has no docstring" in found
    assert not any("undocumented is on no page" in gap for gap in found)


def test_products_in_docstrings_are_no_emphasis(hook):
    escaped = hook("docstrings").escaped
    assert escaped("spikes (T*B, C) of (T*B, K)") == "spikes (T\\*B, C) of (T\\*B, K)"
    assert escaped("``k*k`` and *this*\n\n    k*k\n") == "``k*k`` and *this*\n\n    k*k\n"
