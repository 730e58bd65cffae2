"""Which inference cases a session has: tests are parametrised, deselected, and remembered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.config.case_matrix import Axes
    from pytest_infergate.config.case_terms import CaseTerms
    from pytest_infergate.config.marker import Marker
    from pytest_infergate.config.settings import Settings
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.instruments.device import DeviceKind
    from pytest_infergate.paired.selected_case import SelectedCase
    from pytest_infergate.runner.case_report import CollectedCases

KINDS = pytest.StashKey["dict[str, DeviceKind]"]()


class Parameter(NamedTuple):
    """What the `infer` fixture is parametrised with."""

    axes: Axes
    terms: CaseTerms


def parameters(
    marker: Marker, test: str, settings: Settings, devices: tuple[str, ...]
) -> tuple[Parameter, ...]:
    """Cross the axes of a test, under its terms; or say once why it has no case in this run."""
    from pytest_infergate.config.case_matrix import axes
    from pytest_infergate.config.case_terms import case_terms

    terms = case_terms(settings, marker, test)
    return tuple(Parameter(one, terms) for one in axes(marker, settings, devices))


def import_hint(module: str, root: Path) -> list[tuple[str, str]]:
    """Return a section for a report if a module that was not found is in the project."""
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
        self._deselected: list[tuple[str, str]] = []
        self._selected: list[pytest.Item] = []
        self.inference: dict[str, pytest.Item] = {}
        """Inference tests that are left after selection, by node id."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Say how to import a module of the project that a file with inference tests does not find."""
        report = yield
        if report.failed and isinstance(collector, pytest.Module):
            found = re.search(r"ModuleNotFoundError: No module named '(\w+)", report.longreprtext)
            if found and b"inference" in collector.path.read_bytes():
                report.sections += import_hint(found[1], collector.config.rootpath)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give an inference test its cases, before the user's own parameters.

        An invalid marker is the collection error of its test.
        """
        marks = [(mark.args, mark.kwargs) for mark in metafunc.definition.iter_markers("inference")]
        if not marks and not _takes_infer(metafunc):
            return
        from pytest_infergate.config.marker import parse_marker

        invalid = None
        try:
            marker = parse_marker(marks, device_kinds(metafunc.config))
        except ConfigurationError as error:
            invalid = f"{metafunc.definition.nodeid}: {error}"
        if invalid is not None:  # outside the handler, or pytest would show the caught error too
            pytest.fail(invalid, pytrace=False)
        cases = self._parametrised(marker, metafunc.definition.nodeid)
        if "infer" not in metafunc.fixturenames:
            metafunc.fixturenames.append("infer")
        metafunc.parametrize(
            "infer",
            cases,
            indirect=True,
            ids=[case.axes.id for case in cases],
            scope="function",
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect tests without a case in this run; remember all others before ``-k`` deselects more."""
        self._modules = frozenset(item.nodeid.partition("::")[0] for item in items)
        parameters = {item: found for item in items if (found := parameter_of(item)) is not None}
        without = [item for item, found in parameters.items() if found.axes.deselected is not None]
        self._deselected = [(item.nodeid, str(parameters[item].axes.deselected)) for item in without]
        self._cases = [
            case_of(item, found.axes) for item, found in parameters.items() if found.axes.deselected is None
        ]
        if without:
            config.hook.pytest_deselected(items=without)
            gone = set(without)
            items[:] = [item for item in items if item not in gone]

    def note_selected(self, items: Sequence[pytest.Item]) -> None:
        """Remember the inference tests that are left after every plugin has deselected its own."""
        self._selected = [item for item in items if is_inference(item)]
        self.inference = {item.nodeid: item for item in self._selected}

    def refuse_shared_ids(self) -> None:
        """Refuse two inference tests of one id, which would be one case."""
        counts = Counter(item.nodeid for item in self._selected)
        shared = next((nodeid for nodeid, count in counts.items() if count > 1), None)
        if shared is not None:
            raise pytest.UsageError(
                f"inference cases must have distinct ids, got {shared} twice. "
                "Hint: give the parameters distinct ids, or choose a rootdir above both files"
            )

    def present(self, absence: Callable[[str], str | None]) -> list[SelectedCase]:
        """Selected cases whose device is available; `absence` says why one is not."""
        from pytest_infergate.paired.selected_case import SelectedCase

        return [
            SelectedCase(item.nodeid, item.path, case_of(item, found.axes), found.terms)
            for item in self.inference.values()
            if (found := parameter_of(item)) is not None and absence(found.axes.device) is None
        ]

    def found(self) -> CollectedCases:
        """What this process collected, for the end of the run."""
        from pytest_infergate.core.domain.values import Note
        from pytest_infergate.runner.case_report import CollectedCases

        return CollectedCases(
            cases=tuple(self._cases),
            modules=tuple(sorted(self._modules)),
            deselected=tuple(
                Note(code=NoteCode.DESELECTED, text=f"{nodeid}: {reason}")
                for nodeid, reason in self._deselected
            ),
            selected=sum(parameter_of(item) is not None for item in self.inference.values()),
        )


def device_kinds(config: pytest.Config) -> dict[str, DeviceKind]:
    """Return the kinds of device that plugins and conftest files offer, by name."""
    if KINDS not in config.stash:  # looked up once: a kind may find its devices when it is made
        offers: list[list[DeviceKind]] = config.hook.pytest_infergate_devices(config=config)
        config.stash[KINDS] = {kind.kind: kind for offer in reversed(offers) for kind in offer}
    return config.stash[KINDS]


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


def is_inference(item: pytest.Item) -> bool:
    """Whether an item is an inference test, also one that cannot work."""
    return parameter_of(item) is not None or item.get_closest_marker("inference") is not None


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
        dtype=axes.dtype,
        batch_size=axes.batch_size,
        threads=axes.threads,
    )
