"""What a test sees: the `infer` callable and the result it returns."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.errors import InfergateError, NotMeasuredError
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.tokens import TokenStreamer

if TYPE_CHECKING:
    import torch

    from pytest_infergate.core.domain.measurement import Energy, Measurement, Memory, Stream
    from pytest_infergate.core.domain.outcome import Price
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.runner.run import Measured

_T = TypeVar("_T")
__tracebackhide__ = True
"""A traceback of pytest ends in the test or in its model, not in a frame of this file."""
PARTS_SHOWN: Final = 3
"""Number of elements of a container that a message names."""


class LatencyFigures(NamedTuple):
    """Wall time of one call in seconds. The device is synchronised before and after each call."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    samples: tuple[float, ...]
    """All timed calls, in order."""


class Result:
    """The result of a call of `infer`: the output of the model, and its figures if the run measured."""

    def __init__(
        self,
        output: Any,
        measurement: Measurement | None = None,
        samples: tuple[float, ...] = (),
        price: Price | None = None,
    ) -> None:
        self.output = output
        """Output of the first call, with tensors on the CPU; for a stream, the list of its items."""
        self._measurement = measurement
        self._samples = samples
        self._price = price

    @property
    def measured(self) -> bool:
        """Whether the case was timed. Without options of infergate, pytest runs the model once."""
        return self._measurement is not None and self._measurement.latency is not None

    @property
    def measurement(self) -> Measurement:
        """All figures of the case.

        This property and those below raise `NotMeasuredError` if the case was not measured. With
        ``--infer-counters-only``, those of times raise it.
        """
        if self._measurement is None:
            raise NotMeasuredError(
                "this run did not measure. "
                "Hint: run pytest with --infer-devices=cpu, or check result.measured first"
            )
        return self._measurement

    @property
    def latency(self) -> LatencyFigures:
        """Wall time of one call in seconds."""
        latency = self._timed(self.measurement.latency)
        return LatencyFigures(
            p50=latency.p50.value,
            p90=latency.p90.value,
            p95=latency.p95.value,
            p99=latency.p99.value,
            mean=latency.mean,
            samples=self._samples,
        )

    @property
    def throughput(self) -> float:
        """Items per second, with calls issued back to back."""
        return self._timed(self.measurement.throughput)

    @property
    def memory(self) -> Memory:
        """Weights and peaks of the allocator in bytes."""
        return self.measurement.memory

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact counters by name, for example ``flops``; only those that the device can count."""
        return MappingProxyType(self.measurement.counters.totals)

    @property
    def cold_start(self) -> float:
        """Duration of the first call in seconds."""
        return self._timed(self.measurement.cold_start)

    @property
    def stream(self) -> Stream | None:
        """Time to the first item and between items in seconds; ``None`` if the output is not a stream."""
        return self.measurement.stream

    @property
    def energy(self) -> Energy | None:
        """Energy of a call in joules, with its source; ``None`` if it was not measured."""
        return self.measurement.energy

    @property
    def cost(self) -> float | None:
        """US dollars for a million items, at the utilisation set in `[tool.infergate]` (default: 0.6).

        ``None`` if no instance type or price is configured for the machine.
        """
        throughput = self.throughput
        if self._price is None:
            return None
        from pytest_infergate.core.domain.instance_types import usd_per_million

        return usd_per_million(self._price.usd_per_hour, throughput, self._price.utilisation)

    def _timed(self, figure: _T | None) -> _T:
        """Return a figure that only runs with a clock have."""
        if figure is None:
            raise NotMeasuredError(
                "this run took counters only, and no times. "
                "Hint: leave out --infer-counters-only, or check result.measured first"
            )
        return figure

    def __repr__(self) -> str:
        if not self.measured:
            return "<Result, not measured>"
        return f"<Result p50={self.latency.p50:.3g} s, {len(self._samples)} calls>"


class InferTwiceError(InfergateError):
    """A test called `infer` a second time."""


class InfeasibleError(InfergateError):
    """The case ran out of memory, so that there is no output for the test."""


class Infer:
    """The `infer` fixture, which a test calls once with the model and its arguments.

    Its attributes describe the case: `device`, `batch_size`, `dtype`, `runtime`, `threads`, `grad_mode`.
    """

    def __init__(
        self, case: Case, measure: Callable[[Invocation], Result], grad_mode: str = "inference_mode"
    ) -> None:
        self.case = case
        self.grad_mode = grad_mode
        """Function of torch under which a module runs: ``inference_mode``, ``no_grad``, ``enable_grad``."""
        self.called = False
        self.streamer = TokenStreamer()
        """A streamer for `generate` of transformers, whose tokens are timed:
        ``infer(model.generate, input_ids, streamer=infer.streamer)``."""
        self._measure = measure
        self._dtype_read = False

    def __repr__(self) -> str:
        return f"<infer for {self.case.name}>"

    @property
    def device(self) -> str:
        """Name of the device in the form that torch uses: ``cpu``, ``cuda:1``."""
        return self.case.device

    @property
    def batch_size(self) -> int:
        """Number of items in the batch that the test is to build."""
        return self.case.batch_size

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the model is cast to; ``None`` if it keeps its own, as with ``int8``."""
        cast = dtype_parts(self.case.dtype).cast
        if cast is None:
            return None
        import torch

        self._dtype_read = True
        dtype: torch.dtype = getattr(torch, cast)
        return dtype

    @property
    def runtime(self) -> str:
        """Name of what executes the model: ``eager``."""
        return self.case.runtime

    @property
    def threads(self) -> int | None:
        """Number of threads inside an operator; ``None`` if torch chooses it."""
        return self.case.threads

    def __call__(self, model: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Result:
        """Run `model(*args, **kwargs)` on the device of the case and measure it.

        A module, or a bound method or partial of one, is moved to the device with its tensor arguments, runs
        in eval and inference mode (or the `grad_mode` of the marker), and is restored afterwards. Any other
        callable runs as it is: the test moves it to `device`, and builds it in `dtype`. Arguments are the
        same in each call, and are restored afterwards.

        Raises what the model raises, `TypeError` for a model that is not callable, `InferTwiceError` at the
        second call in a test, and `InfeasibleError`, which skips the test, if memory runs out.
        """
        if self.called:
            raise InferTwiceError(
                "infer must be called once in a test, got a second call. "
                "Hint: split the test, or use pytest.mark.parametrize"
            )
        self.called = True
        if not callable(model):
            raise TypeError(
                f"the model must be callable, got {_described(model)}. "
                "Hint: infer(model, *inputs), where the model is a module, one of its methods, or a function"
            )
        given = kwargs.get("streamer")
        if given is not self.streamer and all(
            callable(getattr(given, name, None)) for name in ("put", "end")
        ):
            self.streamer.inner, kwargs["streamer"] = given, self.streamer
        invocation = Invocation(model, args, kwargs, self.grad_mode, self.streamer, self._dtype_read)
        try:
            return self._measure(invocation)
        except BaseException as error:  # noqa: BLE001 - whatever the model raises
            # The reader looks for the model's frames, not for ours around them. Not `raise ... from`, which
            # sets __suppress_context__: the exception that the model was handling would not be shown.
            raise error.with_traceback(_without_ours(error.__traceback__))  # noqa: B904


def result_of(measured: Measured) -> Result:
    """Return what a test gets of a measured case. Raises `InfeasibleError` if memory ran out."""
    if measured.out_of_memory:
        raise InfeasibleError(str(measured.judged.result.reason))
    return Result(
        measured.output, measured.judged.result.measurement, measured.samples, measured.judged.result.price
    )


def _described(value: object) -> str:
    """Name the class of a value and of its first elements; the text of a model or tensor would be long."""
    if value is None or isinstance(value, (str, bytes, int, float)):
        return reprlib.repr(value)
    text = f"an object of class {type(value).__name__}"
    if isinstance(value, (list, tuple, set, dict)) and value:
        parts = [type(part).__name__ for part in value]
        more = [f"{len(parts) - PARTS_SHOWN} more"] if len(parts) > PARTS_SHOWN else []
        text += f" with {', '.join([*parts[:PARTS_SHOWN], *more])}"
    return text


def _without_ours(frames: TracebackType | None) -> TracebackType | None:
    """Drop the frames of this package between the test and the model."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(
        "pytest_infergate."
    ):
        frames = frames.tb_next
    return frames
