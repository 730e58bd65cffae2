import pytest
from core_values import latency


@pytest.mark.parametrize(
    ("count", "percentile", "seen"),
    [(19, 95, False), (20, 95, True), (99, 99, False), (100, 99, True), (9, 90, False), (10, 90, True)],
)
def test_a_high_percentile_needs_a_call_that_exceeds_it(count, percentile, seen):
    found = latency(0.010, count)
    assert found.seen(percentile) == (getattr(found, f"p{percentile}").value if seen else None)
