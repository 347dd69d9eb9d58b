"""The user's own networks, known for the length of a test."""

import pytest

import gee_core
from gee_core.config import network as names
from tests.gee_core.own_networks import OWN


@pytest.fixture
def own():
    """The networks of ``own_networks`` are registered; those that a test registers besides are forgotten after it."""
    before = dict(names.OWN)
    for name, build in OWN.items():
        gee_core.register_network(name, build)
    yield
    names.OWN.clear()
    names.OWN.update(before)
