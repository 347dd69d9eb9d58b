"""The docstrings of the public names: what they give, and examples that run as they are printed."""

import doctest
import inspect

import torch

import gee_core

WRITE = {"save", "save_genes", "save_update", "write_nir"}
"""Their examples write what others read."""
GIVE_NOTHING = {"register_network", *WRITE}


def test_every_public_function_says_what_it_gives_and_shows_an_example():
    for name in gee_core.__all__:
        if inspect.isfunction(function := getattr(gee_core, name)):
            text = inspect.getdoc(function)
            assert "Args:" in text or not inspect.signature(function).parameters, name
            assert "Returns:" in text or name in GIVE_NOTHING, name
            assert ">>> " in text or name == "winner", name  # the example of evolve shows it


def test_the_examples_print_what_they_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {"gee_core": gee_core, "torch": torch}
    for name in sorted(gee_core.__all__, key=lambda name: name not in WRITE):
        said: list[str] = []
        for test in doctest.DocTestFinder(recurse=False).find(getattr(gee_core, name), name, globs=dict(known)):
            assert doctest.DocTestRunner().run(test, out=said.append).failed == 0, "".join(said)
