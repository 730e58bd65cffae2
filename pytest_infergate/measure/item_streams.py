"""Results that arrive item by item: what is an item, and the times of items."""

from __future__ import annotations

import asyncio
import atexit
import functools
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import Stream
from pytest_infergate.core.domain.stats import mean
from pytest_infergate.errors import InfergateError
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.timed_calls import RepeatedCall, time_calls
from pytest_infergate.measure.passes import PASS_SECONDS, PASS_SHARE
from pytest_infergate.measure.tokens import TokenCounts, TokenStreamer, tokens_in

# Streams take longer than other calls, and their time to the first item needs as many calls as any
# percentile.
STREAM_SHARE = 0.3
MIN_STREAM_CALLS = 3
MAX_STREAM_CALLS = 1000
# A quarter of the times between items is compared with another one.
QUARTERS = 4
MIN_GAPS_OF_A_QUARTER = 2
# The thread of a streamer ends microseconds after its last item. One of a pool never ends, and is made once.
THREAD_SECONDS = 0.2

Emit = Callable[[Callable[[Any], object]], object]
"""Calls once, and passes on each item of the result as it arrives, and `TokenCounts`."""


class AsyncStreamError(InfergateError):
    """An asynchronous stream was returned in a test that runs in an event loop itself."""


class StreamItems(list[Any]):
    """The items of a generator that returned a value at its end."""

    returned: Any = None


def is_stream(output: object) -> bool:
    """Return whether an output is a generator or iterator, asynchronous or not.

    A file is not, although it yields its lines.
    """
    return isinstance(output, (Iterator, AsyncIterator)) and not isinstance(output, io.IOBase)


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of all asynchronous streams: connections belong to the loop that made them."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def synchronous(stream: Any) -> Any:
    """Return an iterator over an asynchronous one; any other stream is returned as it is.

    Raises `AsyncStreamError` if the thread runs an event loop.
    """
    return _awaited(stream) if isinstance(stream, AsyncIterator) else stream


def _awaited(stream: AsyncIterator[Any]) -> Iterator[Any]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = _event_loop()
    else:
        raise AsyncStreamError(
            "an asynchronous stream must be measured outside of an event loop, got one in an async test. "
            "Hint: make the test an ordinary function"
        )

    async def following() -> Any:
        return await anext(stream, _END)

    try:
        while (item := loop.run_until_complete(following())) is not _END:
            yield item
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            loop.run_until_complete(close())


_END = object()


@contextmanager
def _threads_awaited() -> Iterator[None]:
    """Wait on exit for the threads that were started, which may still hold the memory of a call."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(THREAD_SECONDS)


def arriving(stream: Any) -> Iterator[Any]:
    """Yield the items of a stream, and `TokenCounts`.

    Empty texts are left out, which a streamer of text yields while a word is incomplete. So is the prompt,
    which a streamer of transformers repeats as its first text unless `skip_prompt` is set.
    """
    repeats_prompt = getattr(stream, "skip_prompt", None) is False
    for item in synchronous(stream):
        if repeats_prompt:
            repeats_prompt = False
        elif not isinstance(item, str) or item:
            yield item


def stream_items(stream: Any) -> list[Any]:
    """Return copies of the items of an iterator: the next item may overwrite the memory of the last."""
    returned: list[Any] = []

    def relayed() -> Iterator[Any]:
        returned.append((yield from synchronous(stream)))

    items = StreamItems(
        tensors.clone_tensors(item) for item in relayed() if not isinstance(item, TokenCounts)
    )
    items.returned = tensors.clone_tensors(returned[0])
    return list(items) if items.returned is None else items


def pulled(call: Callable[[], Any]) -> Emit:
    """Return what passes on the items of the stream that `call` returns."""

    def emit(take: Callable[[Any], object]) -> None:
        with _threads_awaited():
            for item in arriving(call()):
                take(item)

    return emit


def pushed(call: Callable[[], Any], streamer: TokenStreamer) -> Emit:
    """Return what passes on the items that `call` puts into a streamer."""

    def emit(take: Callable[[Any], object]) -> object:
        with streamer.taking(take):
            return call()

    return emit


def consumed(call: Callable[[], Any]) -> Callable[[], None]:
    """Return a call that consumes all items of the stream that `call` returns."""

    def consume() -> None:
        with _threads_awaited():
            for _ in synchronous(call()):
                pass

    return consume


def stream_seconds(call_seconds: float, min_calls: int, max_seconds: float) -> float:
    """Return how long `stream_times` takes at most, besides its last call."""
    calls = max(MIN_STREAM_CALLS, min_calls) * call_seconds
    return max(min(PASS_SECONDS, PASS_SHARE * max_seconds), min(calls, STREAM_SHARE * max_seconds))


class ItemTimes:
    """A call that times the items of another as they arrive.

    `prompt` is the number of tokens in the prompts of a call, if it is known before.
    """

    def __init__(self, emit: Emit, device: Device, batch_size: int = 1, prompt: int | None = None) -> None:
        self.first: list[float] = []
        """Seconds until the first item of each call."""
        self._emit, self._device, self._batch_size, self._prompt = emit, device, batch_size, prompt
        self._calls: list[list[float]] = []
        """Seconds between the items of each call."""
        self._items = 0
        self._prompts: list[int | None] = []
        self._outputs: list[int | None] = []

    def __call__(self) -> None:
        """Call once."""
        device = self._device
        times: list[float] = []
        prompt = self._prompt
        output: int | None = 0
        stated: int | None = None
        device.synchronize()
        last = device.clock()

        def take(item: Any) -> None:
            nonlocal last, prompt, output, stated
            if isinstance(item, TokenCounts):
                prompt = item.prompt if prompt is None else prompt
                stated = item.output if item.output is not None else stated
                return
            device.synchronize()
            now = device.clock()
            times.append((now - last) / 1e9)
            last = now
            tokens = tokens_in(item, self._batch_size)
            output = None if tokens is None or output is None else output + tokens

        self._emit(take)
        device.synchronize()
        self._items += len(times)
        # An empty stream has no first item; its end is what a caller waits for.
        self.first.append(times[0] if times else (device.clock() - last) / 1e9)
        self._calls.append(times[1:])
        self._prompts.append(prompt)
        self._outputs.append(output if stated is None else stated)

    def stream(self) -> Stream:
        """Summarise all calls so far."""
        between = [gap for gaps in self._calls for gap in gaps]
        output = mean_of_known(self._outputs)
        return Stream(
            items=self._items / len(self.first),
            first_item=latency_of(tuple(self.first)),
            between_items=latency_of(tuple(between)) if between else None,
            prompt_tokens=None if output is None else mean_of_known(self._prompts),
            output_tokens=output,
            per_token=self._per_token(),
            growth=growth(self._calls),
        )

    def _per_token(self) -> float | None:
        """Return the mean over all calls of the time per token after the first; `None` if it is unknown."""
        found = [
            sum(gaps) / (tokens / self._batch_size - 1)
            for gaps, tokens in zip(self._calls, self._outputs, strict=True)
            if tokens is not None and gaps and tokens > self._batch_size
        ]
        return mean(tuple(found)) if found and len(found) == len(self._calls) else None


def mean_of_known(counts: list[int | None]) -> float | None:
    """Return the mean of counts; ``None`` if one is unknown, or all are 0."""
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if len(known) == len(counts) and any(known) else None


def growth(calls: list[list[float]]) -> float | None:
    """Return how much longer the last quarter of the times between items is than the first one.

    It is the ratio of their medians over all calls; ``None`` for calls of fewer than nine items, and for
    fewer than three calls, which a moment of contention may distort.
    """
    sizes = [len(gaps) // QUARTERS for gaps in calls]
    if len(calls) < MIN_STREAM_CALLS or min(sizes) < MIN_GAPS_OF_A_QUARTER:
        return None
    first = [gap for gaps, size in zip(calls, sizes, strict=True) for gap in gaps[:size]]
    last = [gap for gaps, size in zip(calls, sizes, strict=True) for gap in gaps[-size:]]
    return median(last) / max(median(first), 1e-9)


def stream_times(
    call: RepeatedCall, times: ItemTimes, device: Device, min_calls: int, max_seconds: float
) -> Stream:
    """Time the items of streams for a pass and at least `min_calls` calls.

    `call` makes the calls that `times` times. `max_seconds` is the time limit of the case, of which the
    streams take `STREAM_SHARE` at most; one call is made in any case.
    """
    begin, elapsed = device.clock(), 0.0
    seconds = min(PASS_SECONDS, PASS_SHARE * max_seconds)
    # The same repeated call, which knows what earlier calls changed, and restores it outside of the times.
    consume, call.call = call.call, times
    try:
        while not times.first or (
            len(times.first) < MAX_STREAM_CALLS
            and (
                elapsed < seconds
                or (
                    len(times.first) < max(MIN_STREAM_CALLS, min_calls)
                    and elapsed < STREAM_SHARE * max_seconds
                )
            )
        ):
            call()
            elapsed = (device.clock() - begin) / 1e9
    finally:
        call.call = consume
    return times.stream()


def complete_call(call: RepeatedCall, device: Device) -> tuple[Any, bool, float]:
    """Call once; return the result, whether it was a stream, and the seconds until it was complete.

    The result of a stream is the list of its items.
    """
    device.synchronize()
    begin = device.clock()
    with _threads_awaited():
        output = call()
        stream = is_stream(output)
        if stream:
            output = stream_items(output)
    device.synchronize()
    return output, stream, (device.clock() - begin) / 1e9


def timed_call(call: RepeatedCall, times: ItemTimes | None, device: Device) -> tuple[float, Stream | None]:
    """Call once; return the seconds, and the times of the items if `times` times those of a stream."""
    if times is None:
        return time_calls(call, device, 1)[0], None
    call.prepare()
    begin = device.clock()
    items = stream_times(call, times, device, 0, 0.0)
    return (device.clock() - begin) / 1e9, items
