import pytest

from gee_core.errors import InputError
from pipelines.inputs.remedies import remedy


@pytest.mark.parametrize(("own", "expected"), [(None, "run `dvc repro`"), ("delete it", "delete it")])
def test_a_problem_gets_the_remedy_unless_it_has_its_own(own, expected):
    with pytest.raises(InputError) as caught, remedy("run `dvc repro`"):
        raise InputError("a.json: damaged", own)
    assert str(caught.value) == f"a.json: damaged: {expected}"
