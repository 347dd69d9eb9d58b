"""A series of states: the newest that is whole is found, whatever happened to those after it."""

import pytest
import torch

from gee_core.training import resume as states
from gee_core.training.resume import keep_state, newest_state


def keep(folder, *numbers, series="step"):
    for number in numbers:
        keep_state(folder, series, number, {"x": torch.full((50,), float(number))}, {"rows": [number, 0.1]})


def newest(folder):
    """The number that the newest state was kept with."""
    found = newest_state(folder, "step")
    if found is None:
        return None
    tensors, meta = found
    assert meta["rows"] == [tensors["x"][0], 0.1]
    return meta["rows"][0]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_state_comes_back_and_two_are_on_disk(tmp_path, caplog):
    assert newest(tmp_path) is None
    keep(tmp_path, 1, 2, 10)
    assert newest(tmp_path) == 10
    assert names(tmp_path) == [f"step-{n:08}.{end}" for n in (2, 10) for end in ("json", "safetensors")]
    assert caplog.messages == []


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


DAMAGE = {
    "a bit of a number": (".safetensors", lambda d: flip(d, len(d) - 2)),
    "another number in the JSON": (".json", lambda d: d.replace(b"0.1", b"0.2")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_where_the_newest_is_damaged_the_one_before_is_used_with_one_warning_that_names_the_file(damage, tmp_path, caplog):
    keep(tmp_path, 1, 2, 3)
    end, spoil = DAMAGE[damage]
    path = tmp_path / f"step-00000003{end}"
    assert spoil(path.read_bytes()) != path.read_bytes()
    path.write_bytes(spoil(path.read_bytes()))
    assert newest(tmp_path) == 2
    (message,) = caplog.messages
    assert str(path.with_suffix("")) in message
    assert "damaged" in message
    assert message.endswith("; resuming from the state before it")
    caplog.clear()
    assert newest(tmp_path) == 2
    assert caplog.messages == []  # nobody is told twice
    keep(tmp_path, 3)
    assert newest(tmp_path) == 3


@pytest.mark.parametrize("lost", [".json", ".safetensors"])
def test_a_state_of_which_half_was_written_is_none_and_no_reason_for_a_warning(lost, tmp_path, caplog):
    keep(tmp_path, 1, 2)
    (tmp_path / f"step-00000002{lost}").unlink()
    assert newest(tmp_path) == 1
    assert caplog.messages == []


def test_older_states_stay_until_the_new_one_is_read_back(tmp_path, monkeypatch, caplog):
    keep(tmp_path, 1, 2)
    save = states.save_tensors

    def on_a_bad_disk(path, tensors, meta):
        save(path, tensors, meta)
        path.write_bytes(flip(path.read_bytes(), 90))

    with monkeypatch.context() as patch:
        patch.setattr(states, "save_tensors", on_a_bad_disk)
        keep(tmp_path, 3)
    (message,) = caplog.messages
    assert "step-00000003.safetensors: damaged" in message
    assert message.endswith("the states before it are kept")
    assert newest(tmp_path) == 2
    assert len(names(tmp_path)) == 4
