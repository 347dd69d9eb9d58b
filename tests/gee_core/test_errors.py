import pickle

from gee_core.errors import DivergedError, InputError


def test_a_message_is_the_problem_and_its_remedy():
    assert str(InputError("a.json: damaged", "delete it")) == "a.json: damaged: delete it"
    assert str(InputError("a.json: damaged")) == "a.json: damaged"


def test_an_error_that_crossed_a_process_is_the_same():
    copy = pickle.loads(pickle.dumps(DivergedError("the loss is NaN", "lower train.lr")))
    assert (type(copy), copy.problem, copy.remedy) == (DivergedError, "the loss is NaN", "lower train.lr")
