"""One inference test in pytest's item protocol: seeds, the `infer` fixture, the verdict on the test."""

from __future__ import annotations

import functools
import importlib
import zlib
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_infergate.errors import CaseTimeoutError, InfergateError, NotMeasuredError
from pytest_infergate.plugin.collection import case_of, parameter_of
from pytest_infergate.report.sanitize import plain_lines

if TYPE_CHECKING:
    from pytest_infergate.config.case_terms import CaseTerms
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.plugin.fixture import Infer, Result

RESTORE_SEED = pytest.StashKey[Callable[[], None]]()
INFER = pytest.StashKey["Infer"]()
"""The `Infer` of an item, whatever the test itself got under that name."""
NEVER_CALLED = (
    "infer must be called once in an inference test, got no call. "
    "Hint: call infer(model, inputs), or remove the argument infer"
)
NO_ARGUMENT = (
    "infer must be an argument of the test, or of a fixture that is: "
    "requested by name while the test runs, it has no case"
)


class Cases(Protocol):
    """What becomes of a case, which differs from mode to mode."""

    def why_not(self, case: Case, nodeid: str, terms: CaseTerms) -> str | None:
        """Return why the case cannot run, which skips its test; ``None`` where it can."""

    def measure(self, case: Case, nodeid: str, terms: CaseTerms, invocation: Invocation) -> Result:
        """Run the model. Exceptions of the model pass through; `InfeasibleError` skips the test."""

    def failure(self, nodeid: str) -> str | None:
        """Return why the test of a case fails although its body passed; ``None`` where it does not."""


def infer_for(request: pytest.FixtureRequest, cases: Cases) -> Infer:
    """Make the fixture of one case, or skip its test."""
    from pytest_infergate.plugin.fixture import Infer

    item: pytest.Item = request.node
    parameter = parameter_of(item)
    if parameter is None:
        pytest.fail(NO_ARGUMENT, pytrace=False)
    case, terms = case_of(item, parameter.axes), parameter.terms
    reason = cases.why_not(case, item.nodeid, terms)
    if reason is not None:
        pytest.skip(reason)
    infer = Infer(case, functools.partial(cases.measure, case, item.nodeid, terms), terms.grad_mode)
    item.stash[INFER] = infer
    return infer


class ItemHooks:
    """Hooks around every item, for a session with inference tests, measured or not."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Seed before any fixture of the case builds its model."""
        if parameter_of(item) is None:
            return
        from pytest_infergate.measure.seed import seed_all

        item.stash[RESTORE_SEED] = seed_all()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail the test of a case that failed, without a traceback."""
        if parameter_of(item) is None:
            return (yield)
        from pytest_infergate.measure.seed import seed_all
        from pytest_infergate.plugin.fixture import InfeasibleError

        # Once more: how many numbers the fixtures drew depends on which of them existed already.
        seed_all()
        infeasible = wrong = result = None
        try:
            result = yield
        except InfeasibleError as error:
            infeasible = plain_lines(str(error))
        except (NotMeasuredError, CaseTimeoutError):
            raise  # with its traceback, which shows the line to change
        except InfergateError as error:
            wrong = plain_lines(str(error))
        # Outside the handlers, or pytest would show each message twice, as an error during another one.
        infer = item.stash.get(INFER, None)
        if wrong is None:
            wrong = NEVER_CALLED if infer is None or not infer.called else self._cases.failure(item.nodeid)
        if wrong is not None:
            pytest.fail(wrong, pytrace=False)
        if infeasible is not None:
            pytest.skip(infeasible)
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Restore the random generators."""
        restore = item.stash.get(RESTORE_SEED, None)
        if restore is not None:
            restore()


class SeededFixtures:
    """Seed each fixture of an inference test by its name.

    A model must not depend on which test requested it first, nor on whether it is measured.
    """

    def __init__(self, items: Iterable[pytest.Item], *, judging: bool = True) -> None:
        self._names = {name for item in items for name in getattr(item, "fixturenames", ())}
        # Judging the first case imports it, and only an imported module is seeded: from now on for all cases.
        if judging:
            importlib.import_module("numpy.random")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Seed, and restore the random generators afterwards."""
        if fixturedef.argname not in self._names and parameter_of(request.node) is None:
            return (yield)
        from pytest_infergate.measure.seed import seed_all

        restore = seed_all(zlib.crc32(fixturedef.argname.encode("utf-8", "backslashreplace")))
        try:
            return (yield)
        finally:
            restore()
