import functools

import pytest

from pytest_infergate.measure.invocation import Invocation


def test_bound_is_c_code_around_the_target():
    bound = Invocation(max, (1, 3), {"key": lambda value: -value}).bound()
    assert type(bound) is functools.partial
    assert bound() == 1


def test_a_target_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="callable"):
        Invocation(None).bound()
