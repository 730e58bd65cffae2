"""The run of inference cases in one process: devices opened once, cases measured once, each judged once.

The pytest hooks and the fixture call it; it does not import pytest.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from pytest_infergate.config.case_terms import CaseTerms
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.domain import metrics, stats, units
from pytest_infergate.core.domain.measurement import ConcurrentRun, Measurement, Peaks
from pytest_infergate.core.domain.model import Case, Environment, Hardware, Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Budget, CaseResult, CaseVerdict, GateMode, Outcome, Policy
from pytest_infergate.core.domain.records import Baseline, CounterRecord
from pytest_infergate.core.gate import decide
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.instruments.device import Device, DeviceAbsentError, DeviceKind
from pytest_infergate.instruments.environment import software_environment
from pytest_infergate.instruments.peaks import peaks
from pytest_infergate.measure import memory
from pytest_infergate.measure.case import Effort, MeasuredSubject
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.runner.prepare import measure_invocation, out_of_memory_note, torch_threads
from pytest_infergate.runner.price_lookup import PriceList
from pytest_infergate.storage.counter_files import CounterFiles
from pytest_infergate.storage.store import Store, load_all

TYPICAL_SHARE = 0.5
"""Share of the time cap that a case usually takes; for the forecast."""
REPETITIONS = 3
"""How often counters are taken before they are put on record."""


class Measured(NamedTuple):
    """What one case left behind: for the test, for the report, for the gate."""

    output: Any
    samples: tuple[float, ...]
    result: CaseResult
    verdict: CaseVerdict

    @property
    def out_of_memory(self) -> bool:
        """Whether memory ran out, so that there is no output."""
        return self.result.outcome is Outcome.INFEASIBLE


class InferenceRun:
    """Everything that lives as long as the run: settings, opened devices, baselines, what was measured."""

    def __init__(self, settings: Settings, kinds: Sequence[DeviceKind], store: Store) -> None:
        self.settings = settings
        self.store = store
        self.counter_files = CounterFiles(settings.counters)
        self.cases = 0
        """Cases that this run judges, among which the chance of a false alarm is shared."""
        self.measured: dict[str, Measured] = {}
        """By node id, so that a rerun repeats the verdict."""
        self.concurrent_runs: Mapping[str, tuple[ConcurrentRun | Note, ...]] = {}
        """What several workers did at once, by node id."""
        self._kinds = {kind.kind: kind for kind in kinds}
        self._devices: dict[str, Device | DeviceAbsentError] = {}
        self._spent = 0.0
        self._reached: dict[tuple[str, int | None], Peaks | None] = {}

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Names that were asked for, ``auto`` replaced by what is there."""
        names: list[str] = []
        for name in self.settings.devices:
            found = (
                [known for kind in self._kinds.values() for known in kind.found()]
                if name == "auto"
                else [name]
            )
            names += found
        return tuple(dict.fromkeys(names))

    @cached_property
    def environment(self) -> Environment:
        """Software of the machine."""
        return software_environment()

    @cached_property
    def baselines(self) -> Mapping[str, Baseline]:
        """Every hardware class on record. Raises `StorageError` where one cannot be read."""
        return MappingProxyType(load_all(self.store))

    @cached_property
    def records(self) -> Mapping[Case, CounterRecord]:
        """Counters on record. Raises `StorageError` where a file of them cannot be read."""
        return MappingProxyType(self.counter_files.load())

    @cached_property
    def prices(self) -> PriceList:
        """What machines cost."""
        return PriceList(self.settings.pricing)

    @cached_property
    def policy(self) -> Policy:
        """How this run decides."""
        return Policy(
            gate=GateMode(self.settings.gate),
            strict=self.settings.strict,
            saving=self.settings.save,
            min_decided=self.settings.min_decided,
            gate_estimates=self.settings.gate_estimates,
        )

    def device(self, name: str) -> Device:
        """Open a device once.

        Raises `DeviceAbsentError` with the true reason, every time, where it is not there.
        """
        if name not in self._devices:
            try:
                self._devices[name] = self._kinds[name.partition(":")[0]].open(name)
            except DeviceAbsentError as error:
                self._devices[name] = error
        device = self._devices[name]
        if isinstance(device, DeviceAbsentError):
            raise DeviceAbsentError(str(device))
        return device

    def check(self, cases: int) -> None:
        """Check, before anything is measured, what would spoil the run later.

        Raises `ConfigurationError` for absent devices and for report folders that do not exist,
        `StorageError` for a baseline that cannot be read or, when saving, written.
        """
        self.cases = cases
        for name in self.settings.require:
            reason = self.absence_reason(name)
            if reason is not None:
                raise ConfigurationError(
                    f"--infer-require={name}: {reason}; attach it, or leave the option out"
                )
        reasons = {name: self.absence_reason(name) for name in self.devices}
        if all(reasons.values()):
            listed = "; ".join(dict.fromkeys(filter(None, reasons.values()))) or "auto found none"
            raise ConfigurationError(f"--infer-devices: none of the devices asked for is there: {listed}")
        self._check_outputs()
        if not self.settings.paired:
            _ = self.baselines, self.records
            self.prices.check()
        if self.settings.save:
            self.store.check_writable()
            self.counter_files.check_writable()

    def _check_outputs(self) -> None:
        """Refuse outputs that could not be written, or that would overwrite each other or a baseline."""
        given = {
            "report": self.settings.report,
            "json": self.settings.json,
            "markdown": self.settings.markdown,
            "paired_data": self.settings.paired_data,
        }
        seen: dict[Path, str] = {}
        for option, path in given.items():
            if path is None:
                continue
            if path.is_dir() or not path.parent.is_dir():
                what = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
                raise ConfigurationError(f"--infer-{option}: {what}; give a file in a folder that exists")
            place = path.resolve()
            if any(folder in place.parents for folder in self._recorded_into()):
                raise ConfigurationError(
                    f"--infer-{option}: {path} is in a folder of baselines or counters; give another"
                )
            if place.suffix == ".py":
                raise ConfigurationError(f"--infer-{option}: {path} is a Python file; give another name")
            if place in seen:
                raise ConfigurationError(f"--infer-{option}: {path} is the file of {seen[place]} already")
            seen[place] = f"--infer-{option}"

    def _recorded_into(self) -> list[Path]:
        baseline = self.settings.baseline
        return [Path(self.settings.counters).resolve()] + (
            [] if "://" in baseline else [Path(baseline).resolve()]
        )

    def absence_reason(self, name: str) -> str | None:
        """Why a device cannot be used; ``None`` where it can."""
        try:
            self.device(name)
        except DeviceAbsentError as error:
            return str(error)
        return None

    def forecast(self, max_times: Sequence[float]) -> str:
        """``8 cases, about 40 s``."""
        typical = units.duration(TYPICAL_SHARE * sum(max_times))
        return f"{units.plural(len(max_times), 'case')} on {', '.join(self.devices)}, about {typical}"

    def out_of_time(self) -> Note | None:
        """Say that ``--infer-max-total`` is spent."""
        limit = self.settings.max_total
        if limit is None or self._spent < limit:
            return None
        text = f"--infer-max-total of {units.duration(limit)} was spent before this case"
        return Note(code=NoteCode.MAX_TOTAL, text=text, hint="raise it, or select fewer cases")

    def unmeasured(
        self, case: Case, nodeid: str, terms: CaseTerms, outcome: Outcome, reason: Note
    ) -> CaseResult:
        """The result of a case that was not measured, and why."""
        return msgspec.structs.replace(self.result(case, nodeid, terms, outcome), reason=reason)

    def result(self, case: Case, nodeid: str, terms: CaseTerms, outcome: Outcome) -> CaseResult:
        """Return a result under the terms of its test, without figures."""
        demand = terms.demand
        return CaseResult(
            case=case,
            nodeid=nodeid,
            outcome=outcome,
            budgets=tuple(Budget(metric=name, limit=limit) for name, limit in terms.budgets.items()),
            tolerance=dict(terms.tolerance),
            gate=None if terms.gate is None else GateMode(terms.gate),
            unit=terms.unit,
            demand=None if demand is None else demand.rate,
            streams=demand.streams if demand is not None and demand.pattern == "periodic" else None,
        )

    def _price(self, device: Device, budgets: Collection[str]) -> dict[str, Any]:
        """What the machine of a device costs; where nobody can say and a budget needs it, why."""
        needed = any(metrics.metric(name).dollars is not None for name in budgets)
        if not (needed or self.settings.pricing.instances):
            return {}
        found = self.prices.price(device.name, self._machine(device))
        if isinstance(found, Note):
            return {"unpriced": found} if needed else {}
        return {"price": found}

    def _machine(self, device: Device) -> Hardware:
        """What a device is a part of: an accelerator beside the CPU is paid for, though it was not used."""
        hardware = device.hardware()
        if device.name != "cpu":
            return hardware
        beside = [name for kind in self._kinds.values() if kind.kind != "cpu" for name in kind.found()]
        if not beside:
            return hardware
        return msgspec.structs.replace(hardware, accelerator=beside[0], accelerator_count=len(beside))

    def judge(self, result: CaseResult) -> CaseVerdict:
        """Judge one result under the policy of this run."""
        return decide.judge(
            result,
            self.baselines,
            self.policy,
            self.environment,
            records=self.records,
            cases=self.cases,
        )

    def measure(
        self,
        case: Case,
        nodeid: str,
        terms: CaseTerms,
        invocation: Invocation,
    ) -> Measured:
        """Measure one case and judge it; the second time, repeat what the first time said.

        Exceptions of the model pass through, but for running out of memory, which is an outcome.
        """
        if nodeid in self.measured:
            return self.measured[nodeid]
        if self.measured:  # only the last case can be rerun: the outputs of others would fill the memory
            last, before = next(reversed(self.measured.items()))
            self.measured[last] = before._replace(output=None, samples=())
        device = self.device(case.device)
        needed = (metrics.metric(name).percentile for name in terms.budgets)
        effort = Effort(
            max_seconds=self._max_seconds(terms),
            repetitions=REPETITIONS if self.settings.save else 1,
            min_calls=max((stats.samples_needed(max(p, 1 - p)) for p in needed if p is not None), default=0),
            energy=self.settings.energy or "joules_per_item" in terms.budgets,
        )
        begin = time.monotonic()
        run, out_of_memory = self._attempt(case, device, effort, invocation)
        reached = None if run is None or run.invalid is not None else self._peaks(case, device)
        self._spent += time.monotonic() - begin
        if out_of_memory is not None:
            gc.collect()
            device.release()
        measurement = None if run is None else run.measurement
        if measurement is not None:
            measurement = self._with_concurrent_runs(measurement, nodeid)
        invalid = None if run is None else run.invalid
        result = msgspec.structs.replace(
            self.result(case, nodeid, terms, _outcome(out_of_memory, invalid)),
            hardware=device.hardware(),
            measurement=measurement,
            reason=out_of_memory or invalid,
            peaks=reached,
            **self._price(device, terms.budgets),
        )
        self.measured[nodeid] = Measured(
            output=None if run is None else run.output,
            samples=() if run is None else run.samples,
            result=result,
            verdict=self.judge(result),
        )
        return self.measured[nodeid]

    def _peaks(self, case: Case, device: Device) -> Peaks | None:
        """How fast a device can be with the threads of a case: found once, for reports and results alone."""
        if self.settings.report is None and self.settings.json is None:
            return None
        key = case.device, case.threads
        if key not in self._reached:
            with torch_threads(case.threads):
                self._reached[key] = peaks(device)
        return self._reached[key]

    def _with_concurrent_runs(self, measurement: Measurement, nodeid: str) -> Measurement:
        """Join what several workers did at once."""
        found = self.concurrent_runs.get(nodeid, ())
        return msgspec.structs.replace(
            measurement,
            concurrent_runs=tuple(one for one in found if isinstance(one, ConcurrentRun)),
            notes=(*measurement.notes, *(one for one in found if isinstance(one, Note))),
        )

    def _max_seconds(self, terms: CaseTerms) -> float:
        if self.settings.max_total is None:
            return terms.max_time
        return min(terms.max_time, self.settings.max_total - self._spent)

    def _attempt(
        self,
        case: Case,
        device: Device,
        effort: Effort,
        invocation: Invocation,
    ) -> tuple[MeasuredSubject | None, Note | None]:
        """Measure, or say that memory ran out. The error is gone on return, and with it what it held."""
        try:
            with torch_threads(case.threads):
                return measure_invocation(case, device, effort, invocation), None
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            return None, out_of_memory_note(error, case)


def _outcome(out_of_memory: Note | None, invalid: Note | None) -> Outcome:
    if out_of_memory is not None:
        return Outcome.INFEASIBLE
    return Outcome.MEASURED if invalid is None else Outcome.INVALID
