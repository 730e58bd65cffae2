"""Rows of counted operators, and strategies for them, that tests of places and of counters share."""

from hypothesis import strategies as st

from pytest_infergate.core.domain.measurement import OperatorWork


def work(operator="aten::addmm", place="", calls=1, **figures):
    return OperatorWork(operator=operator, place=place, calls=calls, **figures)


ODD = ["", "a", "b c", "{}", "{a}", "{0-", "0}", "01", "é", "\n", "1000000", "{0-x}"]
parts = st.one_of(st.integers(0, 12).map(str), st.sampled_from(ODD))
paths = st.lists(parts, min_size=1, max_size=4).map(".".join)
operator_rows = st.lists(
    st.builds(
        work,
        st.sampled_from(["aten::addmm", "aten::_to_copy", "Tensor.cpu"]),
        paths,
        calls=st.integers(1, 2),
        flops=st.integers(0, 1),
        bytes=st.integers(0, 1),
    ),
    max_size=40,
    unique_by=lambda row: (row.operator, row.place),
)
