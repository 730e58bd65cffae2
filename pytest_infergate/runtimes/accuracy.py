"""The figure of the user's function of accuracy: for the model of a case, and for the reference."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.measurement import Accuracy, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.errors import ConversionError, InfergateError
from pytest_infergate.instruments import tensors
from pytest_infergate.measure.case import Watched
from pytest_infergate.measure.guarded_device import error_line
from pytest_infergate.measure.invocation import Invocation


class AccuracyError(InfergateError):
    """The function of accuracy does not return a finite number, or calls the model in a way it has not."""


class CaseModel:
    """The model of a case, as a function of `accuracy` calls it: with inputs on the CPU, of any dtype.

    The output is that of the model, on the CPU.
    """

    def __init__(
        self,
        case: Case,
        call: Callable[..., Any],
        structured: Callable[[Any], Any] = lambda output: output,
        *,
        device: str = "cpu",
        cast: bool = True,
        fixed: Invocation | None = None,
    ) -> None:
        """Take a call whose inputs are on `device`, and what gives its output the structure of the model's.

        `fixed` has the only shapes that the call takes.
        """
        self.case = case
        self.batch_size = case.batch_size
        """Number of items of the batches that a converted model takes."""
        self.calls = 0
        """Number of calls that returned."""
        self._call = call
        self._structured = structured
        self._device = device
        self._cast = cast
        self._fixed = None if fixed is None else _shapes((fixed.args, fixed.kwargs))

    def __repr__(self) -> str:
        return f"<model of {self.case.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the model.

        Raises what the model raises, and `AccuracyError` for shapes that a converted model does not take.
        """
        given = _shapes((args, kwargs))
        if self._fixed is not None and given != self._fixed:
            raise AccuracyError(
                f"{self.case.runtime} must be called with tensors of the shapes {_listed(self._fixed)}, for "
                f"which the model was converted, got {_listed(given)}. Hint: call the model with batches of "
                "model.batch_size items, and fill the last one"
            )
        if "torch" in sys.modules:
            args, kwargs = self._moved((args, kwargs))
        try:
            output = self._call(*args, **kwargs)
        except ConversionError as error:
            raise AccuracyError(f"{self.case.runtime}: {error}") from error
        self.calls += 1
        return self._structured(tensors.copy_to_cpu(output))

    def _moved(self, values: Any) -> Any:
        import torch

        from pytest_infergate.measure.number_formats import channels_last

        parts = dtype_parts(self.case.dtype)
        kind = getattr(torch, parts.cast) if parts.cast and self._cast else None
        return tensors.to_device(values, self._device, kind, channels_last if parts.channels_last else None)


def _shapes(values: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors.tensors(values))


def _listed(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(map(str, shapes))


def scored(function: Callable[[CaseModel], Any], model: CaseModel, watched: Watched) -> float:
    """Return the figure of a model. Raises `AccuracyError` if it is not a finite number."""
    with watched(lambda: model.calls):
        value = function(model)
    scalar = getattr(value, "item", None)  # of a tensor or an array of one element
    if callable(scalar) and set(getattr(value, "shape", (0,))) <= {1}:
        value = scalar()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        shown = repr(value)[:60]
        raise AccuracyError(
            f"accuracy={function_name(function)} must return a finite number, where more is better, "
            f"got {shown} for {model.case.name}"
        )
    return float(value)


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, of the function inside of a partial, or of the class of an object."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__))


class AccuracyPlan(NamedTuple):
    """A function of the user, and how its figure is judged."""

    function: Callable[[CaseModel], Any]
    tolerance: float
    """How much less than that of the reference the figure may be."""
    watched: Watched
    """Limits the time of each call of the model."""

    def scored(self, model: CaseModel, measurement: Measurement) -> Measurement:
        """Add the figure of the model of a case. Raises what the function raises, and `AccuracyError`."""
        value = scored(self.function, model, self.watched)
        made = Accuracy(name=function_name(self.function), value=value, tolerance=self.tolerance)
        return msgspec.structs.replace(measurement, accuracy=made)

    def beside_reference(self, case: Case, invocation: Invocation, measurement: Measurement) -> Measurement:
        """Add the figure of the reference: the same model, eager on the CPU, in its own dtype.

        `AccuracyError` is passed on. Other errors are a note: a model may need its device.
        """
        from pytest_infergate.measure import placement

        reference = msgspec.structs.replace(case, device="cpu", runtime="eager", dtype=None)
        try:
            with placement.placed(invocation, "cpu") as placed:
                model = CaseModel(reference, placed.served.target)
                value = scored(self.function, model, self.watched)
        except AccuracyError:
            raise
        except Exception as error:  # noqa: BLE001 - a model may need its device, or more memory
            note = Note(
                code=NoteCode.OUTPUTS_NOT_COMPARED,
                text=f"accuracy was not compared with that of eager PyTorch on the CPU: {error_line(error)}",
            )
            return msgspec.structs.replace(measurement, notes=(*measurement.notes, note))
        found = measurement.accuracy
        compared = None if found is None else msgspec.structs.replace(found, reference=value)
        return msgspec.structs.replace(measurement, accuracy=compared)
