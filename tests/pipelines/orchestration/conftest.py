"""Modules that are imported by the tests that use them: Prefect takes seconds."""

import importlib

import pytest

flow, follow, server = (
    pytest.fixture(lambda name=name: importlib.import_module(f"pipelines.orchestration.{name}"), name=name)
    for name in ("flow", "follow", "server")
)
