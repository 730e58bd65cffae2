"""Rows about a case that does not agree with the reference: eager PyTorch on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Comparison, Verdict
from pytest_infergate.core.domain.values import Note


def differing_outputs(measurement: Measurement) -> Iterator[Comparison]:
    """Return a failing row if the output differs from that of the reference."""
    if measurement.parity is None or measurement.parity.difference is None:
        return
    first = measurement.parity.first_module
    named = "" if first is None else f"; the first module whose output differs is {first}"
    note = Note(
        code=NoteCode.OUTPUTS_DIFFER,
        text=measurement.parity.difference + named,
        hint="if that is intended, set @pytest.mark.inference(parity=False), or a tolerance there",
    )
    yield Comparison(metric="outputs", verdict=Verdict.MISMATCH, evidence="reference", note=note)


def lost_accuracy(measurement: Measurement) -> Iterator[Comparison]:
    """Return a failing row if the accuracy is too far below that of the reference."""
    found = measurement.accuracy
    if found is None or not found.too_low:
        return
    note = Note(
        code=NoteCode.LESS_ACCURATE,
        text=f"{found.name} is {found.value:.6g}, and {found.reference:.6g} in eager PyTorch on the CPU; "
        f"allowed is {found.tolerance:g} less",
        hint="use another runtime or dtype, or set @pytest.mark.inference(accuracy_tolerance=...)",
    )
    yield Comparison(
        metric="accuracy",
        verdict=Verdict.MISMATCH,
        evidence="accuracy",
        baseline=found.reference,
        candidate=found.value,
        tolerance=found.tolerance,
        note=note,
    )
