"""The run of inference cases in one process: each case is measured once and judged once.

The pytest hooks and the fixture call it; it does not import pytest.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from pytest_infergate.config.case_terms import CaseTerms
from pytest_infergate.config.settings import Settings
from pytest_infergate.core.domain import metrics, stats, units
from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.load_values import LOAD_LIMITS, Load
from pytest_infergate.core.domain.measurement import ConcurrentRun, Measurement, Peaks
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, GateMode, Judged, Outcome, Policy, Price
from pytest_infergate.core.domain.records import Baseline, CounterRecord
from pytest_infergate.core.domain.values import REMOTE_DEVICE, Case, Environment, Note
from pytest_infergate.core.gate import decide
from pytest_infergate.errors import ConfigurationError, ConversionError
from pytest_infergate.instruments.device import Device, DeviceKind
from pytest_infergate.instruments.environment import software_environment
from pytest_infergate.instruments.peak_rates import peaks
from pytest_infergate.instruments.timed_calls import Inputs
from pytest_infergate.load.under_load import LoadPlan, loadgen_absence, measured_under_load
from pytest_infergate.measure import memory, timing_guard
from pytest_infergate.measure.case import Effort, MeasuredSubject, Watched, measure
from pytest_infergate.measure.counters_only import count_only
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.passes import PACED_SECONDS
from pytest_infergate.runner.case_result import case_result
from pytest_infergate.runner.open_devices import OpenDevices
from pytest_infergate.runner.output_paths import check_output_paths
from pytest_infergate.runner.price_lookup import PriceList
from pytest_infergate.runtimes.accuracy import AccuracyPlan
from pytest_infergate.runtimes.eager import (
    Further,
    MeasuringPlan,
    comparison_with_reference,
    has_reference,
    measure_invocation,
    out_of_memory_note,
    torch_threads,
)
from pytest_infergate.runtimes.runtime import (
    ExportingRuntime,
    Runtime,
    WrappingRuntime,
    not_converted_note,
    quantisation_absence,
)
from pytest_infergate.storage.baseline_store import Store, load_all
from pytest_infergate.storage.counter_files import CounterFiles

# Of a case that no run has measured before, for the forecast only. Most medians are precise before the time
# limit; without a clock there is none to wait for.
TYPICAL_SECONDS = 3.0
COUNTED_SECONDS = 1.0
# A queue, and a budget on a high percentile, need the slow calls.
TAIL_BUDGETS = frozenset({"p95_ms", "p99_ms"})
# How often counters are taken before they are recorded; two could agree by chance.
REPETITIONS = 3


class Measured(NamedTuple):
    """What one case leaves: output and call times for the test, result and verdict for the report."""

    output: Any
    samples: tuple[float, ...]
    """Seconds of each sampled call."""
    judged: Judged

    @property
    def out_of_memory(self) -> bool:
        """Whether memory ran out, so that there is no output."""
        return self.judged.result.outcome is Outcome.INFEASIBLE


class InferenceRun:
    """Measures and judges the cases of a run, with the settings, devices and records that they share."""

    def __init__(
        self,
        settings: Settings,
        kinds: Sequence[DeviceKind],
        store: Store,
        runtimes: Mapping[str, Runtime] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.runtimes = runtimes
        self.store = store
        self.counter_files = CounterFiles(settings.counters)
        self.devices = OpenDevices(settings.devices, kinds)
        self.prices = PriceList(settings.pricing)
        self.cases = 0
        """Number of cases that this run judges; they share the chance of a false alarm."""
        self.measured: dict[str, Measured] = {}
        """By node id, so that a rerun repeats the verdict."""
        self.concurrent_runs: Mapping[str, tuple[ConcurrentRun | Note, ...]] = {}
        """Figures of several concurrent workers, by node id."""
        self.watched: Callable[[float], Watched] = lambda _: lambda _: nullcontext()
        """Returns what ends calls that never return, for a case that may take so many seconds."""
        self.first_returned: Callable[[], None] = lambda: None
        """Called after the first call of a case."""
        self._spent = 0.0
        self._peaks: dict[tuple[str, int | None], Peaks | None] = {}

    @cached_property
    def environment(self) -> Environment:
        """Software of the machine."""
        return software_environment()

    @cached_property
    def baselines(self) -> Mapping[str, Baseline]:
        """Baselines of times by hardware class; none without a clock.

        Raises `StorageError` if one cannot be read.
        """
        return MappingProxyType({} if self.settings.counters_only else load_all(self.store))

    @cached_property
    def records(self) -> Mapping[Case, CounterRecord]:
        """Recorded counters by case. Raises `StorageError` if a file of them cannot be read."""
        return MappingProxyType(self.counter_files.load())

    @cached_property
    def policy(self) -> Policy:
        """How this run maps verdicts to pass and fail."""
        return Policy(
            gate=GateMode(self.settings.gate),
            strict=self.settings.strict,
            saving=self.settings.save,
            min_decided=self.settings.min_decided,
            gate_estimates=self.settings.gate_estimates,
        )

    def check(self, cases: int) -> None:
        """Check, before anything is measured, what would fail at the end of the run.

        `cases` is the number of cases that the run judges. Raises `ConfigurationError` for absent devices,
        unusable output paths and unknown prices, and `StorageError` for a baseline that cannot be read or,
        when saving, written.
        """
        self.cases = cases
        self.devices.check(self.settings.require)
        check_output_paths(self.settings)
        # A paired run compares with its base only.
        if not self.settings.paired:
            _ = self.baselines, self.records
            self.prices.check()
            absent = loadgen_absence() if "load" in self.settings.command else None
            if absent is not None:
                raise ConfigurationError(f"--infer-load: {absent.text}. Hint: {absent.hint}")
        if self.settings.save:
            self.counter_files.check_writable()
            if not self.settings.counters_only:
                self.store.check_writable()

    def typical_seconds(self, terms: CaseTerms) -> float:
        """Return how long a case with such terms usually takes."""
        if self.settings.counters_only:
            return COUNTED_SECONDS
        paced = PACED_SECONDS if terms.demand is not None or terms.load is not None else 0.0
        return min(TYPICAL_SECONDS + paced, terms.max_time) + terms.seconds_served

    def forecast(
        self, seconds: Collection[float], devices: Iterable[str], before: float = 0.0, busy: float = 0.0
    ) -> str:
        """Return cases, devices and expected time as text: ``8 cases on cpu, about 40 s``.

        `seconds` and `devices` are the expected ones of each case, `before` the seconds until the first of
        them, and `busy` what all cases take in addition where other processes use the machine.
        """
        about = units.duration(before + sum(seconds))
        if (longer := units.duration(before + sum(seconds) + busy)) != about:
            about += f" on an idle machine and {longer} on a busy one"
        names = ", ".join(dict.fromkeys(devices)) or ", ".join(self.devices.names)
        return f"{units.plural(len(seconds), 'case')} on {names}, about {about}"

    def out_of_time(self) -> Note | None:
        """Return a note if the time of ``--infer-max-total`` is spent."""
        limit = self.settings.max_total
        if limit is None or self._spent < limit:
            return None
        text = f"--infer-max-total of {units.duration(limit)} was spent before this case"
        return Note(code=NoteCode.MAX_TOTAL, text=text, hint="raise it, or select fewer cases")

    def runtime(self, name: str) -> Runtime | None:
        """Return the runtime of a name with its mode; ``None`` if none is registered."""
        return self.runtimes.get(name.partition(":")[0])

    def runtime_absence(self, name: str) -> str | None:
        """Return why a runtime cannot be used here; ``None`` if it can."""
        found = self.runtime(name)
        return None if found is None else found.absence_reason()

    def case_absence(self, case: Case) -> str | None:
        """Return why the runtime or the dtype of a case cannot be used here; ``None`` if both can."""
        absence = self.runtime_absence(case.runtime)
        if absence is not None or dtype_parts(case.dtype).int8 is None:
            return absence
        runtime = self.runtime(case.runtime)
        return quantisation_absence() if case.dtype not in getattr(runtime, "own_precision", ()) else None

    def judge(self, result: CaseResult) -> Judged:
        """Judge one result under the policy of this run."""
        verdict = decide.judge(
            result,
            self.baselines,
            self.policy,
            self.environment,
            records=self.records,
            cases=self.cases,
        )
        return Judged(result=result, verdict=verdict)

    def measure(self, case: Case, nodeid: str, terms: CaseTerms, invocation: Invocation) -> Measured:
        """Measure and judge one case; at the second call, return the result of the first.

        Exceptions of the model are passed on, except for running out of memory, which is an outcome.
        """
        if nodeid in self.measured:
            return self.measured[nodeid]
        if self.measured:
            # Only the last case can be rerun. The outputs of all others would fill the memory.
            last, before = next(reversed(self.measured.items()))
            self.measured[last] = before._replace(output=None, samples=())
        device = self.devices.open(case.device)
        begin = time.monotonic()
        try:
            outcome, subject = self._attempt(case, device, terms, invocation)
            peak_rates = self._peak_rates(case, device) if outcome is Outcome.MEASURED else None
        finally:
            self._spent += time.monotonic() - begin
        if outcome is Outcome.INFEASIBLE:
            # The model may be part of a cycle. The next case needs its memory.
            gc.collect()
            device.release()
        measurement = subject.measurement
        timed = outcome is Outcome.MEASURED and not self.settings.counters_only
        if measurement is not None and device.asynchronous and timed:
            invalid = device.unwaited or timing_guard.too_fast_note(measurement, peak_rates)
            outcome = outcome if invalid is None else Outcome.INVALID
            subject = subject._replace(invalid=invalid)
        failed = device.notes()
        if measurement is not None:
            disagree = timing_guard.contradiction_note(measurement)
            concurrent = self.concurrent_runs.get(nodeid, ())
            measurement = msgspec.structs.replace(
                measurement,
                concurrent_runs=tuple(run for run in concurrent if isinstance(run, ConcurrentRun)),
                notes=tuple(
                    note
                    for note in (*measurement.notes, *failed, disagree, *concurrent)
                    if isinstance(note, Note)
                ),
            )
        # Without times there is no cost, and nothing that needs a price.
        budgets = {} if self.settings.counters_only else terms.budgets
        price = self.prices.case_price(device.name, lambda: self.devices.machine(device), budgets)
        result = msgspec.structs.replace(
            case_result(case, nodeid, terms, outcome, subject.invalid),
            hardware=device.hardware(),
            measurement=measurement,
            peaks=peak_rates,
            price=price if isinstance(price, Price) else None,
            unpriced=price if isinstance(price, Note) else None,
        )
        self.measured[nodeid] = Measured(subject.output, subject.samples, self.judge(result))
        return self.measured[nodeid]

    def _effort(self, terms: CaseTerms) -> Effort:
        """Return the time that is left for a case, and what its budgets need."""
        max_total = self.settings.max_total
        percentiles = (metrics.metric(name).percentile for name in terms.budgets)
        # Both are compared with the simulation of a server, or answered by it.
        demand = terms.demand is not None or terms.load is not None
        return Effort(
            tail=demand or not TAIL_BUDGETS.isdisjoint(terms.budgets),
            limited=terms.demand is not None and terms.demand.period is not None,
            paced=demand,
            max_seconds=terms.max_time if max_total is None else min(terms.max_time, max_total - self._spent),
            min_calls=max(
                (stats.samples_needed(max(p, 1 - p)) for p in percentiles if p is not None), default=0
            ),
            # A run that records nothing compares single counts, and knows from the record which counters
            # vary.
            repetitions=REPETITIONS if self.settings.save else 1,
            energy=self.settings.energy or "joules_per_item" in terms.budgets,
            first=not self.measured,
            watched=self.watched(terms.max_time),
            first_returned=self.first_returned,
        )

    def _attempt(
        self, case: Case, device: Device, terms: CaseTerms, invocation: Invocation
    ) -> tuple[Outcome, MeasuredSubject]:
        """Measure a case, or note that memory ran out."""
        try:
            with torch_threads(case.threads):
                course = count_only if self.settings.counters_only else measure
                plan = MeasuringPlan(course, self.runtime(case.runtime))
                if terms.seconds_served:
                    plan = plan._replace(further=self.under_load(case, device, terms))
                if terms.compare_outputs and has_reference(case, invocation):
                    watched = self.watched(terms.max_time)
                    find = self._first_module(case, device, terms, invocation)
                    compared = comparison_with_reference(case, invocation, terms.parity, watched, find)
                    plan = plan._replace(compared=compared)
                if terms.accuracy is not None:
                    watched = self.watched(terms.max_time)
                    accuracy = AccuracyPlan(terms.accuracy, terms.accuracy_tolerance, watched)
                    plan = plan._replace(accuracy=accuracy)
                subject = measure_invocation(case, device, self._effort(terms), invocation, plan)
        except ConversionError as error:
            return Outcome.INFEASIBLE, MeasuredSubject(None, None, invalid=not_converted_note(error, case))
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            # The exception, and the memory that its frames refer to, is released when this method returns.
            return Outcome.INFEASIBLE, MeasuredSubject(None, None, invalid=out_of_memory_note(error, case))
        return Outcome.MEASURED if subject.invalid is None else Outcome.INVALID, subject

    def _first_module(
        self, case: Case, device: Device, terms: CaseTerms, invocation: Invocation
    ) -> Callable[[Callable[[], None]], str | None]:
        """Return what finds the first module whose output differs; converted and remote models have none."""
        runtime = self.runtime(case.runtime)

        def found(restore: Callable[[], None]) -> str | None:
            if case.runtime != "eager" and not isinstance(runtime, WrappingRuntime):
                return None
            from pytest_infergate.runtimes.divergence import Divergence

            one = Divergence(case, device.torch_name or "cpu", runtime, terms.parity)
            return one.first_module(invocation, restore)

        return found

    def under_load(self, case: Case, device: Device, terms: CaseTerms) -> Further:
        """Return what serves a case under the load of its terms, as long as there is time for it."""
        begin = time.monotonic()
        limits = [limit for name, limit in terms.budgets.items() if name in LOAD_LIMITS]

        def serve(call: Invocation, inputs: Inputs | None, measurement: Measurement) -> Measurement:
            why = "its model has one batch size, and a server forms batches of any size"
            if case.device == REMOTE_DEVICE:
                why = "it is a server, which forms its batches itself"
            if case.device == REMOTE_DEVICE or isinstance(self.runtime(case.runtime), ExportingRuntime):
                note = Note(
                    code=NoteCode.LOAD_NOT_MEASURED,
                    text=f"{case.runtime} was not measured under load: {why}",
                )
                return msgspec.structs.replace(measurement, notes=(*measurement.notes, note))
            seconds, max_total = terms.seconds_served, self.settings.max_total
            if max_total is not None:
                seconds = min(seconds, max_total - self._spent - (time.monotonic() - begin))
            plan = LoadPlan(
                terms.load or Load(scenario="offline"),
                seconds,
                case.batch_size,
                device,
                min(limits) / 1e3 if limits else None,
                self.watched(terms.max_time),
            )
            return measured_under_load(plan, call, inputs, measurement)

        return serve

    def _peak_rates(self, case: Case, device: Device) -> Peaks | None:
        """Return the peak rates of a device with the threads of a case, measured once."""
        # Only reports and results show them, and they take a second.
        if self.settings.counters_only or (self.settings.report is None and self.settings.json is None):
            return None
        key = case.device, case.threads
        if key not in self._peaks:
            with torch_threads(case.threads):
                self._peaks[key] = peaks(device)
        return self._peaks[key]
