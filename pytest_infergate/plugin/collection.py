"""Which inference cases a session has: tests are parametrised, deselected, and remembered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.config.case_matrix import Axes
    from pytest_infergate.config.case_terms import CaseTerms
    from pytest_infergate.config.marker import Marker
    from pytest_infergate.config.settings import Settings
    from pytest_infergate.core.domain.values import Case, Note
    from pytest_infergate.instruments.device import DeviceKind
    from pytest_infergate.paired.selected_case import SelectedCase
    from pytest_infergate.runner.case_report import CollectedCases
    from pytest_infergate.runtimes.runtime import Runtime

KINDS = pytest.StashKey["dict[str, DeviceKind]"]()
RUNTIMES = pytest.StashKey["dict[str, Runtime]"]()


class Parameter(NamedTuple):
    """What the `infer` fixture is parametrised with."""

    axes: Axes
    terms: CaseTerms
    marks: Marks = ()
    """The markers that the terms are from."""

    def __repr__(self) -> str:
        return self.axes.id  # for pytest --setup-show


Marks = tuple[tuple[tuple[Any, ...], Mapping[str, Any]], ...]
"""Arguments of the markers of a test, the closest one first."""


def parameters(
    marker: Marker, test: str, settings: Settings, devices: tuple[str, ...], asked: Sequence[str] = ()
) -> tuple[Parameter, ...]:
    """Cross the axes of a test, under its terms; or say once why it has no case in this run.

    `asked` are further ids of its cases, of which a run that does not measure runs any.
    """
    from pytest_infergate.config.case_matrix import axes, axes_of_id
    from pytest_infergate.config.case_terms import case_terms
    from pytest_infergate.config.parse import is_converting
    from pytest_infergate.core.domain.values import REMOTE_DEVICE

    terms = case_terms(settings, marker, test)
    further = filter(None, (axes_of_id(text, marker, settings.offered) for text in asked))
    found = {one.id: one for one in (*axes(marker, settings, devices), *further)}
    converting = {name for name, runtime in settings.offered.items() if is_converting(runtime)}
    # The server forms batches of up to the largest size, from the items of that case.
    largest = max(marker.batch_sizes or (1,))
    made = []
    # A test of nothing but a server has no other case that could keep the limits of its memory and work, and
    # neither has one of converted models only.
    here = [one for one in found.values() if one.device != REMOTE_DEVICE]
    local = bool(here) or not marker.runtimes
    counted = any(one.deselected is None and one.runtime.partition(":")[0] not in converting for one in here)
    for one in found.values():
        own = terms if one.batch_size == largest else terms.unserved()
        if one.device == REMOTE_DEVICE and local:
            own = own.of_server()
        elif one.runtime.partition(":")[0] in converting and counted:
            own = own.of_converted()
        made.append(Parameter(one, own))
    return tuple(made)


def located(config: pytest.Config, argument: str) -> tuple[str, str] | None:
    """Return the path of an argument of the command line, relative to the rootdir, and the names behind it.

    ``None`` for a path outside of the rootdir.
    """
    path, _, names = argument.partition("::")
    place = (config.invocation_params.dir / path).resolve()
    root = config.rootpath.resolve()
    return (place.relative_to(root).as_posix(), names) if place.is_relative_to(root) else None


def asked_ids(config: pytest.Config) -> Mapping[str, Sequence[str]]:
    """Return ids of cases by their test: those of the command line, and failed ones that are to be repeated.

    A measured run may have printed them, and has more cases than one that does not measure.
    """
    places = [place for argument in config.args if (place := located(config, argument)) is not None]
    nodeids = [f"{path}::{names}" for path, names in places]
    if config.getoption("lf", False) or config.getoption("failedfirst", False):
        cache: pytest.Cache | None = getattr(config, "cache", None)
        nodeids += [] if cache is None else list(cache.get("cache/lastfailed", {}))
    found: dict[str, list[str]] = {}
    for nodeid in nodeids:
        test, bracket, rest = nodeid.partition("[")
        if bracket:
            found.setdefault(test, []).append(rest.removesuffix("]"))
    return found


def import_hint(module: str, root: Path) -> list[tuple[str, str]]:
    """Return a section for a report if a module that was not found is torch or in the project."""
    if module == "torch":
        return [("infergate", "torch is not installed here. Hint: pip install torch")]
    for folder in (root, root / "src"):
        if (folder / module).is_dir() or (folder / f"{module}.py").is_file():
            place = folder.relative_to(root).as_posix()
            python = "" if place == "src" else ", or run python -m pytest"
            hint = (
                f"{module} is in the project, but Python does not look there. Hint: install the project "
                f"with pip install -e ., or add pythonpath = {place} to the settings of pytest{python}"
            )
            return [("infergate", hint)]
    return []


class CollectedItems:
    """The items of this process, by the hooks that collect them."""

    def __init__(self, parametrised: Callable[[Marker, str], Sequence[Parameter]]) -> None:
        """Take what makes the parameters of a test from its marker and node id: modes differ in it."""
        self._parametrised = parametrised
        self._modules: frozenset[str] = frozenset()
        self._cases: list[Case] = []
        self.deselected: list[tuple[str, str]] = []
        """Ids without a case in this run, with the reason."""
        self._selected: list[pytest.Item] = []
        self._axes: dict[str, list[Axes]] = {}
        self._unused: list[str] = []
        self._invalid: list[str] = []
        """Errors in markers of the module or class that is being collected."""
        self.inference: dict[str, pytest.Item] = {}
        """Inference tests that are left after selection, by node id."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Fail with all invalid markers at once; say how to import a module that is not found."""
        report = yield
        if self._invalid:
            report.outcome, report.longrepr, report.result = "failed", "\n".join(self._invalid), []
            self._invalid.clear()
        if report.failed and isinstance(collector, pytest.Module):
            found = re.search(r"ModuleNotFoundError: No module named '(\w+)", report.longreprtext)
            if found and b"infer" in collector.path.read_bytes():
                report.sections += import_hint(found[1], collector.config.rootpath)
        return report

    def _parameters(self, node: pytest.Item, test: str) -> dict[str, Parameter]:
        """Return the parameters of a test by id. Raises `ConfigurationError` for an invalid marker."""
        from pytest_infergate.config.marker import parse_marker

        marks = _marks(node)
        marker = parse_marker(marks, device_kinds(node.config), offered_runtimes(node.config))
        return {one.axes.id: one._replace(marks=marks) for one in self._parametrised(marker, test)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give an inference test its cases, before the user's own parameters.

        A test that does not use `infer` is left alone: its marker may be that of another project. An invalid
        marker is a collection error of its module or class.
        """
        if not _takes_infer(metafunc):
            return
        try:
            cases = self._parameters(metafunc.definition, metafunc.definition.nodeid)
        except ConfigurationError as error:
            self._invalid.append(f"{metafunc.definition.nodeid}: {error}")
            return
        self._axes[metafunc.definition.nodeid] = [one.axes for one in cases.values()]
        metafunc.parametrize("infer", list(cases.values()), indirect=True, ids=list(cases), scope="function")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect tests without a case in this run; remember all others before ``-k`` deselects more."""
        self._modules = frozenset(item.nodeid.partition("::")[0] for item in items)
        parameters = {item: found for item in items if (found := parameter_of(item)) is not None}
        without = [item for item, found in parameters.items() if found.axes.deselected is not None]
        self.deselected = [(item.nodeid, str(parameters[item].axes.deselected)) for item in without]
        self._cases = [
            case_of(item, found.axes) for item, found in parameters.items() if found.axes.deselected is None
        ]
        if without:
            config.hook.pytest_deselected(items=without)
            gone = set(without)
            items[:] = [item for item in items if item not in gone]

    def note_selected(self, items: Sequence[pytest.Item]) -> None:
        """Remember the inference tests that are left after every plugin has deselected its own.

        Raises `ConfigurationError` if a marker that was added after the cases were made is invalid.
        """
        self._selected = [item for item in items if parameter_of(item) is not None]
        # A doctest has the markers of its module, but cannot use a fixture.
        functions = [item for item in items if isinstance(item, pytest.Function)]
        self._unused = [item.nodeid for item in functions if parameter_of(item) is None and _marks(item)]
        self.inference = {item.nodeid: item for item in self._selected}
        for item in self._selected:
            self._take_late_marks(item)

    def _take_late_marks(self, item: pytest.Item) -> None:
        """Apply markers that a parameter of the user or a hook added after the cases were made."""
        parameter = parameter_of(item)
        if parameter is None or parameter.marks == _marks(item):
            return
        test = case_of(item, parameter.axes).test
        now = self._parameters(item, test)
        if [one.axes for one in now.values()] != self._axes[test]:
            raise ConfigurationError(
                f"{item.nodeid}: a marker that is added to a parameter, or after collection, must leave the "
                "cases of its test as they are. Hint: put devices, dtypes, batch_sizes, threads on the test"
            )
        item.callspec.params["infer"] = now[parameter.axes.id]  # type: ignore[attr-defined]

    def refuse_shared_ids(self) -> None:
        """Refuse two inference tests of one id, which would be one case."""
        counts = Counter(item.nodeid for item in self._selected)
        shared = next((nodeid for nodeid, count in counts.items() if count > 1), None)
        if shared is not None:
            raise pytest.UsageError(
                f"inference cases must have distinct ids, got {shared} twice. "
                "Hint: give the parameters distinct ids, or choose a rootdir above both files"
            )

    def present(self, absence: Callable[[Case], str | None]) -> list[SelectedCase]:
        """Selected cases that are available; `absence` says why one is not."""
        from pytest_infergate.paired.selected_case import SelectedCase

        return [
            SelectedCase(item.nodeid, item.path, case_of(item, found.axes), found.terms)
            for item in self.inference.values()
            if (found := parameter_of(item)) is not None and absence(case_of(item, found.axes)) is None
        ]

    def unused(self) -> list[Note]:
        """Return a note if tests have the marker and do not use `infer`, which are ordinary tests."""
        if not self._unused:
            return []
        from pytest_infergate.core.domain import units
        from pytest_infergate.core.domain.notes import NoteCode
        from pytest_infergate.core.domain.values import Note

        return [
            Note(
                code=NoteCode.UNUSED_MARKER,
                text=f"{units.plural(len(self._unused), 'test')} with the marker inference did not use infer "
                f"and ran as usual, for instance {self._unused[0]}",
                hint="to measure it, give the test the argument infer and call infer(model, inputs)",
            )
        ]

    def found(self) -> CollectedCases:
        """What this process collected, for the end of the run."""
        from pytest_infergate.core.domain.notes import NoteCode
        from pytest_infergate.core.domain.values import Note
        from pytest_infergate.runner.case_report import CollectedCases

        return CollectedCases(
            cases=tuple(self._cases),
            modules=tuple(sorted(self._modules)),
            deselected=(
                *(
                    Note(code=NoteCode.DESELECTED, text=f"{nodeid}: {reason}")
                    for nodeid, reason in self.deselected
                ),
                *self.unused(),
            ),
            selected=sum(parameter_of(item) is not None for item in self.inference.values()),
        )


def device_kinds(config: pytest.Config) -> dict[str, DeviceKind]:
    """Return the kinds of device that plugins and conftest files offer, by name."""
    if KINDS not in config.stash:  # looked up once: a kind may find its devices when it is made
        offers: list[list[DeviceKind]] = config.hook.pytest_infergate_devices(config=config)
        config.stash[KINDS] = {kind.kind: kind for offer in reversed(offers) for kind in offer}
    return config.stash[KINDS]


def offered_runtimes(config: pytest.Config) -> dict[str, Runtime]:
    """Return the runtimes that plugins and conftest files offer, by name."""
    if RUNTIMES not in config.stash:
        offers: list[list[Runtime]] = config.hook.pytest_infergate_runtimes(config=config)
        config.stash[RUNTIMES] = {one.name: one for offer in reversed(offers) for one in offer}
    return config.stash[RUNTIMES]


def _takes_infer(metafunc: pytest.Metafunc) -> bool:
    """Whether a test takes this fixture, and not one of the user's own that has the same name."""
    if "infer" not in metafunc.fixturenames:
        return False
    chain = metafunc._arg2fixturedefs.get("infer", ())  # noqa: SLF001 - nothing else says whose it is
    for found in reversed(chain):
        if getattr(found.func, "__module__", "").startswith("pytest_infergate."):
            return True
        if "infer" not in found.argnames:  # it replaces this fixture instead of wrapping it
            return False
    return False


def ends_before_tests(session: pytest.Session) -> bool:
    """Whether pytest is about to end the session, since tests could not be collected."""
    return bool(session.testsfailed) and not session.config.getoption("continue_on_collection_errors", False)


def _marks(node: pytest.Item) -> Marks:
    return tuple((mark.args, mark.kwargs) for mark in node.iter_markers("inference"))


def parameter_of(item: pytest.Item) -> Parameter | None:
    """What `infer` is parametrised with in an item; ``None`` for an ordinary test."""
    callspec = getattr(item, "callspec", None)
    found = None if callspec is None else callspec.params.get("infer")
    return found if isinstance(found, Parameter) else None


def case_of(item: pytest.Item, axes: Axes) -> Case:
    """The key of an item. Its id is not parsed: the parts of it that are known are removed."""
    from pytest_infergate.core.domain.values import Case

    whole: str = item.callspec.id  # type: ignore[attr-defined]
    return Case(
        test=item.nodeid.removesuffix(f"[{whole}]"),
        params=whole.removeprefix(axes.id).removeprefix("-"),
        device=axes.device,
        runtime=axes.runtime,
        dtype=axes.dtype,
        batch_size=axes.batch_size,
        threads=axes.threads,
    )
