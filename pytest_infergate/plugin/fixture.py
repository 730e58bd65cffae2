"""What a test sees: the `infer` callable and the result it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_infergate.errors import InfergateError, NotMeasuredError
from pytest_infergate.measure.invocation import Invocation

if TYPE_CHECKING:
    import torch

    from pytest_infergate.core.domain.measurement import Energy, Latency, Measurement, Memory, Stream
    from pytest_infergate.core.domain.model import Case
    from pytest_infergate.core.domain.outcome import Price
    from pytest_infergate.runner.run import Measured


class LatencyFigures(NamedTuple):
    """Wall time of one call, the device synchronised before and after; seconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    samples: tuple[float, ...]
    """Every timed call, in order."""


class Result:
    """What `infer` returns: the output of the first call, and the figures where they were measured."""

    def __init__(
        self,
        output: Any,
        measurement: Measurement | None = None,
        samples: tuple[float, ...] = (),
        price: Price | None = None,
    ) -> None:
        self.output = output
        """As normal tensors on the CPU; of a stream, the list of its items."""
        self._measurement = measurement
        self._samples = samples
        self._price = price

    @property
    def measured(self) -> bool:
        """Whether this run measured; plain ``pytest`` does not."""
        return self._measurement is not None

    @property
    def measurement(self) -> Measurement:
        """Every figure. This and all below raise `NotMeasuredError` where nothing was measured."""
        if self._measurement is None:
            raise NotMeasuredError(
                "this run did not measure; run pytest with --infer-devices=cpu, or ask result.measured first"
            )
        return self._measurement

    @property
    def latency(self) -> LatencyFigures:
        """Wall time of one call, in seconds."""
        latency: Latency = self.measurement.latency
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
        """Items a second, calls issued back to back."""
        return self.measurement.throughput

    @property
    def memory(self) -> Memory:
        """Weights and allocator peaks, in bytes."""
        return self.measurement.memory

    @property
    def counters(self) -> Mapping[str, int]:
        """Exact counters by name, as ``flops`` and ``operators``; those that could be taken."""
        return MappingProxyType(self.measurement.counters.totals)

    @property
    def cold_start(self) -> float:
        """Seconds of the first call."""
        return self.measurement.cold_start

    @property
    def stream(self) -> Stream | None:
        """Time to the first item and between items; ``None`` where the call returned at once."""
        return self.measurement.stream

    @property
    def energy(self) -> Energy | None:
        """Joules of a call and where they come from; ``None`` where nothing tells them."""
        return self.measurement.energy

    @property
    def cost(self) -> float | None:
        """US dollars for a million items, at the utilisation of `[tool.infergate]`: 0.6 where it says none.

        ``None`` where nobody said what the machine stands for, or it is another machine.
        """
        measurement = self.measurement
        if self._price is None:
            return None
        from pytest_infergate.core.domain.instance_types import usd_per_million

        return usd_per_million(self._price.usd_per_hour, measurement.throughput, self._price.utilisation)

    def __repr__(self) -> str:
        if self._measurement is None:
            return "<Result, not measured>"
        return f"<Result p50={self.latency.p50:.3g} s, {len(self._samples)} calls>"


class InferTwiceError(InfergateError):
    """A test called `infer` a second time."""


class InfeasibleError(InfergateError):
    """The case ran out of memory: nothing of it can be shown to the test."""


class Infer:
    """The `infer` fixture: call it once with the model and its arguments.

    The attributes tell a test its case: `device`, `batch_size`, `dtype`, `runtime`, `threads`.
    """

    def __init__(self, case: Case, measure: Callable[[Invocation], Result]) -> None:
        self.case = case
        self.called = False
        self._measure = measure

    def __repr__(self) -> str:
        return f"<infer for {self.case.name}>"

    @property
    def device(self) -> str:
        """Where this case runs, as torch spells it: ``cpu``, ``cuda:1``."""
        return self.case.device

    @property
    def batch_size(self) -> int:
        """Items in the batch that the test should build."""
        return self.case.batch_size

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the model is cast to; ``None`` leaves it as it came."""
        if self.case.dtype is None:
            return None
        import torch

        dtype: torch.dtype = getattr(torch, self.case.dtype)
        return dtype

    @property
    def runtime(self) -> str:
        """What executes the model."""
        return self.case.runtime

    @property
    def threads(self) -> int | None:
        """Threads inside an operator; ``None`` leaves torch's own choice."""
        return self.case.threads

    def __call__(self, model: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Result:
        """Run `model(*args, **kwargs)` on this case's device and measure it.

        A module (or a bound method or partial of one) is put on the device with its tensor arguments, in
        eval and inference mode, and is left as it was found. Any other callable runs as it is.
        Raises what the model raises, `InferTwiceError` on the second call of a test, and `InfeasibleError`,
        which ends the test as a skip, where memory runs out.
        """
        __tracebackhide__ = True
        if self.called:
            raise InferTwiceError(
                "infer was called twice in one test: a test measures one thing; "
                "split it, or parametrise it with pytest.mark.parametrize"
            )
        self.called = True
        try:
            return self._measure(Invocation(model, args, kwargs))
        except BaseException as error:  # noqa: BLE001 - whatever the model raises
            # The reader looks for the model's frames, not for ours around them. Not `raise ... from`, which
            # sets __suppress_context__: the exception that the model was handling would not be shown.
            raise error.with_traceback(_without_ours(error.__traceback__))  # noqa: B904


def result_of(measured: Measured) -> Result:
    """What a test sees of a measured case. Raises `InfeasibleError` where memory ran out."""
    if measured.out_of_memory:
        raise InfeasibleError(str(measured.result.reason))
    return Result(measured.output, measured.result.measurement, measured.samples, measured.result.price)


def _without_ours(frames: TracebackType | None) -> TracebackType | None:
    """Drop the frames between the test and the model."""
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(
        "pytest_infergate."
    ):
        frames = frames.tb_next
    return frames
