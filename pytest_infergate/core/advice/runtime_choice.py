"""The fastest runtime and dtype of a model whose output agrees with that of eager PyTorch on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import CONTENDED, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import CaseResult, Outcome
from pytest_infergate.core.domain.stats import positive
from pytest_infergate.core.domain.values import Case, Struct

# One addition of eight figures took 11 us in eager PyTorch, 12 with onnxruntime, 20 with aoti, 31 with
# compile and 41 with openvino, on two cores.
CALL_OVERHEAD: Final = 50e-6
"""Time in seconds that entering a runtime takes at most."""
FEW_OPERATORS: Final = 4
"""Number of operators up to which there is little that a compiler could fuse."""
_PLAIN_DTYPES: Final = (None, "float32")


class RuntimeCase(Struct, frozen=True, kw_only=True):
    """One runtime and dtype, with its time and the error of its output."""

    case: Case
    seconds: float
    """Median time of a call."""
    low: float = 0.0
    high: float = 0.0
    """Bounds of the median; valid in a case that is ranked."""
    error: float | None = None
    """As in `Parity`, and 0 for the reference; ``None`` without floating values."""
    differs: bool = False
    """Whether the output differs from that of the reference beyond its tolerance."""
    accuracy: float | None = None
    """As in `Accuracy`; ``None`` without a function of the user."""
    inaccurate: bool = False
    """Whether the accuracy is too far below that of the reference."""
    unranked: str = ""
    """Why the time is not compared with others; empty if it is."""
    why_slower: str = ""
    """What is known of the reason why it is slower than eager; empty if it is not, or nothing is known."""

    @property
    def agrees(self) -> bool:
        """Whether the case may be named the fastest."""
        return not (self.unranked or self.differs or self.inaccurate)


class RuntimeChoice(Struct, frozen=True, kw_only=True):
    """The runtimes and dtypes of one model on one device, with one batch size and number of threads."""

    cases: tuple[RuntimeCase, ...]
    """Eager first, then by the name of the runtime; its usual dtype first."""
    machine: str = ""
    """Id of the hardware class."""
    fastest: RuntimeCase | None = None
    """The fastest case that agrees with the reference; ``None`` if there is nothing to choose from."""
    eager: RuntimeCase | None = None
    """The case of eager PyTorch with which others are compared; ``None`` if none is ranked."""
    quicker: tuple[RuntimeCase, ...] = ()
    """Cases that are not ranked and took less time than the fastest ranked one, so that none is named."""
    alike: tuple[RuntimeCase, ...] = ()
    """Cases that agree as well, and whose times cannot be distinguished from that of the fastest one."""

    @property
    def speedup(self) -> float | None:
        """Time of eager PyTorch over that of the fastest case; ``None`` for eager itself, or if unknown."""
        if self.fastest is None or self.eager is None or self.eager is self.fastest:
            return None
        return self.eager.seconds / self.fastest.seconds


def runtime_choices(results: Iterable[CaseResult]) -> tuple[RuntimeChoice, ...]:
    """Return a choice for each model that was timed with several runtimes or dtypes on one device."""
    groups: dict[tuple[object, ...], list[tuple[CaseResult, Measurement]]] = {}
    for result in results:
        measured, case = result.measurement, result.case
        if result.outcome is not Outcome.MEASURED or measured is None or measured.latency is None:
            continue
        if not positive(measured.latency.p50.value):
            continue
        machine = "" if result.hardware is None else result.hardware.id
        key = machine, case.test, case.params, case.device, case.batch_size, case.threads
        groups.setdefault(key, []).append((result, measured))
    return tuple(
        _choice(str(key[0]), group)
        for key, group in groups.items()
        # Without a comparison of outputs, a fast runtime may compute something else.
        if len(group) > 1 and any(measured.parity or measured.accuracy for _, measured in group)
    )


def _choice(machine: str, group: list[tuple[CaseResult, Measurement]]) -> RuntimeChoice:
    group.sort(key=lambda pair: _order(pair[0].case))
    cases = [_runtime_case(result.case, measured) for result, measured in group]
    eager = [one for one in cases if one.case.runtime == "eager" and not one.unranked]
    measurements = [measured for _, measured in group]
    for index, one in enumerate(cases):
        of_dtype = one.case.runtime == "eager"
        dtypes = _PLAIN_DTYPES if of_dtype else (one.case.dtype,)
        beside = next((other for other in eager if other.case.dtype in dtypes), None)
        if beside is None or one.unranked or one.low <= beside.high:
            continue
        measured, before = measurements[index], measurements[cases.index(beside)]
        if of_dtype:
            why = _more_operators(measured, before)
        else:
            why = "; ".join(_reasons(one, beside, measured, before))
        cases[index] = msgspec.structs.replace(one, why_slower=why)
    agreeing = sorted((one for one in cases if one.agrees), key=lambda one: one.seconds)
    # One case alone is not a choice, unless all others compute something else.
    ranked = [one for one in cases if not one.unranked]
    fastest = agreeing[0] if agreeing and len(ranked) > 1 else None
    # What disturbs a case makes it slower: one that took less time nevertheless is the faster one.
    doubtful = [one for one in cases if one.unranked and not (one.differs or one.inaccurate)]
    quicker = tuple(one for one in doubtful if fastest is not None and one.seconds < fastest.seconds)
    fastest = None if quicker else fastest
    return RuntimeChoice(
        cases=tuple(cases),
        machine=machine,
        fastest=fastest,
        eager=eager[0] if eager else None,
        quicker=quicker,
        alike=() if fastest is None else tuple(one for one in agreeing[1:] if one.low <= fastest.high),
    )


def _order(case: Case) -> tuple[bool, str, bool, str]:
    return case.runtime != "eager", case.runtime, case.dtype not in _PLAIN_DTYPES, case.dtype or ""


def _runtime_case(case: Case, measured: Measurement) -> RuntimeCase:
    median, parity, taken = measured.call_times.p50, measured.parity, measured.contention
    accuracy = measured.accuracy
    reference = parity is None and (case.device, case.runtime, case.dtype) == ("cpu", "eager", None)
    accurate = accuracy is not None and accuracy.reference is not None
    error = 0.0 if reference else None if parity is None else parity.error
    unranked = ""
    # The share is in the notes of the case; without it, one sentence serves all disturbed cases.
    if taken is not None and not taken <= CONTENDED:
        limit = units.percent(CONTENDED, signed=False, decimals=0)
        unranked = f"other processes took more than {limit} of the processor time"
    elif median.low is None or median.high is None:
        unranked = "too few calls for bounds of the median"
    elif not (reference or accurate) and (parity is None or (error is None and parity.uncompared)):
        unranked = "the output was not compared"
    elif not (reference or accurate) and accuracy is not None:
        unranked = "the accuracy was not compared"
    elif error is not None and not math.isfinite(error):
        unranked = "the error is unknown"
    return RuntimeCase(
        case=case,
        seconds=median.value,
        low=median.low or 0.0,
        high=median.high or 0.0,
        error=error,
        differs=parity is not None and parity.difference is not None,
        accuracy=None if accuracy is None else accuracy.value,
        inaccurate=accuracy is not None and accuracy.too_low,
        unranked=unranked,
    )


def _more_operators(measured: Measurement, before: Measurement) -> str:
    """Return that eager PyTorch calls more operators in a dtype, or nothing if it does not."""
    now, then = (each.counters.totals.get("operators", 0) for each in (measured, before))
    if not 0 < then < now:
        return ""
    casts = measured.counters.totals.get("dtype_casts", 0)
    of_them = f", of which {casts} only cast," if casts else ""
    return f"it calls {units.plural(now, 'operator')}{of_them} in place of {then}"


def _reasons(
    one: RuntimeCase, eager: RuntimeCase, measured: Measurement, before: Measurement
) -> Iterator[str]:
    """Yield what is known of why a case takes longer than eager PyTorch in the same dtype."""
    counted, codes = measured.counters.totals, {note.code for note in measured.notes}
    if breaks := counted.get("graph_breaks", 0):
        yield f"torch.compile broke the graph {units.plural(breaks, 'time')}"
    elif NoteCode.GRAPH_BREAKS in codes:
        yield "torch.compile broke the graph"
    if recompiles := counted.get("recompiles", 0):
        yield f"it was compiled again {units.plural(recompiles, 'time')}"
    elif NoteCode.RECOMPILED in codes:
        yield "it was compiled again while it was timed"
    if None not in (measured.threads, before.threads) and measured.threads != before.threads:
        yield f"{units.plural(measured.threads or 0, 'thread')} instead of {before.threads}"
    added = one.seconds - eager.seconds
    if max(added, eager.seconds) <= CALL_OVERHEAD:
        yield (
            f"a call of {units.seconds(eager.seconds)} is so short that the {units.seconds(added)} more are "
            "about what entering a runtime takes"
        )
    operators = before.counters.totals.get("operators")
    if measured.conversion is None and operators is not None and operators <= FEW_OPERATORS:
        yield f"the model calls {units.plural(operators, 'operator')}, so that there is little to fuse"
