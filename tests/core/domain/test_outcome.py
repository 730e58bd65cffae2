from pytest_infergate.core.domain.outcome import Against


def test_a_base_without_figures_has_no_launches():
    assert (Against().launches, Against().seconds) == (0, 0.0)
