"""Damage by chance for the tests by fuzzing: to bytes, and to values and structure."""

import json
from collections.abc import Callable
from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from gee_core.errors import InputError

HANG = timedelta(minutes=5)
"""After which the reading of a small file counts as one."""


def tries(n: int) -> settings:
    phases = (Phase.explicit, Phase.generate, *([Phase.shrink] if n > 50 else []))  # those few are slow
    return settings(max_examples=n, deadline=HANG, database=None, phases=phases, suppress_health_check=list(HealthCheck))


def reads(read: Callable, *arguments) -> bool:
    """Whether ``read`` is content. An error that is not InputError escapes, and one that would spoil a terminal."""
    try:
        read(*arguments)
    except InputError as error:
        lines = str(error).split("\n")
        assert all(line and len(line) < 1500 for line in lines)
        assert all(line.isprintable() for line in lines), lines
        return False
    return True


PLACES = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
        st.tuples(st.just("cut"), PLACES, st.just(0)),
        st.tuples(st.just("insert"), PLACES, st.binary(max_size=12)),
        st.tuples(st.just("drop"), PLACES, st.integers(1, 40)),
        st.tuples(st.just("repeat"), PLACES, st.integers(1, 40)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, steps: list) -> bytes:
    for what, place, how in steps:
        i = int(place * len(content))
        if what == "flip" and content:
            content = content[:i] + bytes([content[i] ^ (1 << how)]) + content[i + 1 :]
        elif what == "cut":
            content = content[:i]
        elif what == "insert":
            content = content[:i] + how + content[i:]
        elif what == "drop":
            content = content[:i] + content[i + how :]
        elif what == "repeat":
            content = content[: i + how] + content[i:]
    return content


NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, 2**64, 10**18, -1, 0, 1e308, -1e308, 1e-308, 5e-324, float("inf"), float("nan")]),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["", ".", "/", "~", "/dev/zero", "\0", "\x1b[2J", "a\nb", "x" * 5000, "<script>", "${HOME}", "{{ 1 }}"]),
    st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5)), max_size=4),
    st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=3),
)


def changed(values: dict, places: list[float], new: list, how: list[str]) -> dict:
    """``values`` with some of its parts, at any depth, replaced, removed or joined by others."""
    values = json.loads(json.dumps(values))
    for place, value, what in zip(places, new, how, strict=True):
        parts = list(_parts(values))
        if not parts:
            return values
        owner, key = parts[int(place * len(parts))]
        if what == "replace":
            owner[key] = value
        elif what == "remove":
            del owner[key]
        elif isinstance(owner, dict):
            owner[str(value)[:20]] = value
        else:
            owner.insert(key, value)
    return values


def _parts(value):
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from _parts(part)


CHANGES = st.lists(
    st.tuples(PLACES, NASTY, st.sampled_from(["replace", "replace", "remove", "add"])), min_size=1, max_size=3
).map(lambda rows: tuple(map(list, zip(*rows, strict=True))))
