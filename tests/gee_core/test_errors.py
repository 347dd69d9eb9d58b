import pickle

import pytest

from gee_core.errors import DivergedError, InputError, in_section, in_short, printable


def test_a_message_is_the_problem_and_its_remedy():
    assert str(InputError("a.json: damaged", "delete it")) == "a.json: damaged: delete it"
    assert str(InputError("a.json: damaged")) == "a.json: damaged"


def test_a_message_begins_with_its_argument_and_the_section_that_the_caller_names():
    error = InputError("= true: it reads no images", "set it to false", ("whiten",))
    assert str(error) == "whiten = true: it reads no images: set it to false"
    with pytest.raises(InputError) as caught, in_section("evolve", "proxy"):
        raise error
    assert str(pickle.loads(pickle.dumps(caught.value))) == f"evolve.proxy.{InputError(*error.args[:2], ('whiten',))}"
    with pytest.raises(InputError, match=r"^a.json: damaged$"), in_section("train"):
        raise InputError("a.json: damaged")


def test_no_name_moves_the_cursor_or_begins_a_line():
    assert printable("a\x1b[31m\nb\u2028\udcffgrün [x] \\") == "a\\x1b[31m\\nb\\u2028\\udcffgrün [x] \\"


def test_an_error_that_crossed_a_process_is_the_same():
    copy = pickle.loads(pickle.dumps(DivergedError("the loss is NaN", "lower train.lr")))
    assert (type(copy), copy.problem, copy.remedy) == (DivergedError, "the loss is NaN", "lower train.lr")


def test_another_error_in_short_is_one_printable_line():
    assert in_short(ValueError("a\n  b\x1b[2J\u2028c")) == "a b [2J c"
    assert in_short(ValueError("x" * 500)) == "x" * 200
    assert in_short(ValueError("\x00")) == in_short(ValueError()) == "ValueError"
