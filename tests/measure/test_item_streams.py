"""Results that arrive item by item, on a fake clock. Their place in a case is tested with the case."""

import asyncio
import gc
import threading
from time import sleep

import pytest

from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure.item_streams import (
    MAX_STREAM_CALLS,
    AsyncStreamError,
    ItemTimes,
    arriving,
    consumed,
    pulled,
    pushed,
    stream_items,
    stream_times,
    synchronous,
    timed_call,
)
from pytest_infergate.measure.tokens import TokenCounts, TokenStreamer
from pytest_infergate.testing import FakeDevice


@pytest.fixture
def device():
    return FakeDevice()


def streaming(device, *seconds):
    """A call that yields an item after each time; the last time passes before the end."""

    def call():
        for index, time in enumerate(seconds):
            device.spend(time)
            if index < len(seconds) - 1:
                yield index

    return call


def test_a_consumed_stream_takes_all_its_items(device):
    consumed(streaming(device, 0.5, 0.25, 0.25))()
    assert device.fake_clock.now == 1e9


def items_of(call, device, min_calls=0, max_seconds=100.0, **counts):
    times = ItemTimes(pulled(call), device, **counts)
    return stream_times(RepeatedCall(consumed(call)), times, device, min_calls, max_seconds)


class Shrinks:
    """Arguments that a call changes, so that restoring them takes time."""

    changing = True

    def __init__(self, device):
        self.device, self.left = device, 3

    def settle(self):
        self.device.spend(7.0)
        self.left = 3
        return True

    renew = settle


def test_restoring_the_arguments_is_no_part_of_the_time_to_the_first_item(device):
    arguments = Shrinks(device)

    def call():
        while arguments.left:
            device.spend(0.1)
            arguments.left -= 1
            yield arguments.left

    repeated = RepeatedCall(consumed(call), arguments)
    repeated()
    assert timed_call(repeated, ItemTimes(pulled(call), device), device)[0] == pytest.approx(0.3)
    stream = stream_times(repeated, ItemTimes(pulled(call), device), device, 3, 100.0)
    assert stream.items == 3
    assert stream.first_item.p99.value == stream.between_items.p99.value == pytest.approx(0.1)
    repeated()
    assert repeated.passed == 6


def test_items_are_timed_as_they_arrive(device):
    stream = items_of(streaming(device, 0.3, 0.1, 0.2, 0.05), device)
    assert stream.items == 3
    assert stream.first_item.p50.value == pytest.approx(0.3)
    assert stream.between_items.mean == pytest.approx(0.15)


def test_an_empty_stream_is_timed_to_its_end(device):
    stream = items_of(streaming(device, 0.4), device)
    assert (stream.items, stream.between_items) == (0, None)
    assert stream.first_item.p50.value == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seconds", "min_calls", "max_seconds", "calls"),
    [
        (0.1, 0, 100.0, 3),  # a pass of 0.3 s
        (0.2, 0, 100.0, 3),  # at least three
        (0.2, 10, 100.0, 10),  # as many as the budgets need
        (1.0, 90, 100.0, 30),  # up to 30 % of the time limit
        (40.0, 90, 100.0, 1),  # one in any case
        (0.1, 0, 1.0, 3),  # a pass of 5 %, but three calls
    ],
)
def test_a_stream_is_timed_for_a_pass_and_for_its_budgets(device, seconds, min_calls, max_seconds, calls):
    stream = items_of(streaming(device, seconds, 0.0), device, min_calls, max_seconds)
    assert stream.first_item.count == calls


def test_streams_that_take_no_time_end(device):
    assert items_of(streaming(device, 0.0, 0.0), device).first_item.count == MAX_STREAM_CALLS


def test_the_value_of_a_generator_is_kept_with_its_items():
    def generating(value):
        yield 1
        yield 2
        return value

    items = stream_items(generating({"text": "hello"}))
    assert items == [1, 2]
    assert items.returned == {"text": "hello"}
    assert type(stream_items(generating(None))) is list
    assert stream_items(iter("ab")) == ["a", "b"]
    assert stream_items(map(abs, [])) == []


class Ids:
    """Token ids, as a tensor or an array has them."""

    dtype = "int64"

    def __init__(self, *shape):
        self.shape = shape


def test_a_key_value_cache_shows_in_the_times_of_tokens(device):
    """With a cache, each token takes as long as the last; without one, the prompt is computed again with each."""

    def generating(cached):
        def call():
            for length in range(100, 109):
                device.spend(0.001 * (1 if cached and length > 100 else length))
                yield Ids(1)

        return call

    with_cache, without = (items_of(generating(cached), device, prompt=100) for cached in (True, False))
    assert with_cache.first_item.p50.value == without.first_item.p50.value == pytest.approx(0.1)
    assert with_cache.between_items.p95.value == pytest.approx(0.001)
    assert with_cache.growth == pytest.approx(1.0)
    assert with_cache.per_token == pytest.approx(0.001)
    assert without.between_items.p50.value == pytest.approx(0.1045)
    assert without.growth == pytest.approx(107.5 / 101.5)
    assert (without.prompt_tokens, without.output_tokens, without.items) == (100, 9, 9)


def test_growth_needs_quarters_of_two_times(device):
    assert items_of(streaming(device, *[0.1] * 9, 0), device).growth is not None
    assert items_of(streaming(device, *[0.1] * 8, 0), device).growth is None


def test_time_per_token_counts_tokens_and_not_items(device):
    """Speculative decoding: three tokens arrive at once. The time per token is that of one sequence of the batch."""

    def call():
        for _ in range(3):
            device.spend(0.3)
            yield Ids(2, 3)

    stream = items_of(call, device, batch_size=2)
    assert stream.output_tokens == 18
    assert stream.between_items.p50.value == pytest.approx(0.3)
    assert stream.per_token == pytest.approx(2 * 0.3 / (9 - 1))


def test_a_stream_states_its_tokens(device):
    def call():
        for text in ("", "Red, ", "", "green"):
            device.spend(0.1)
            yield text
        yield TokenCounts(prompt=12, output=5)

    stream = items_of(call, device)
    assert (stream.items, stream.prompt_tokens, stream.output_tokens) == (2, 12, 5)
    assert stream.first_item.p50.value == pytest.approx(0.2)
    assert stream.between_items.p50.value == pytest.approx(0.2)
    assert stream.per_token == pytest.approx(0.2 / 4)
    assert stream_items(call()) == ["", "Red, ", "", "green"]


@pytest.mark.parametrize("item", ["text", 0.5, True, {"ids": 1}, None])
def test_tokens_of_other_items_are_unknown(device, item):
    stream = items_of(lambda: iter([item, 7]), device, prompt=3)
    assert (stream.items, stream.prompt_tokens, stream.output_tokens, stream.per_token) == (
        2,
        None,
        None,
        None,
    )


def test_a_prompt_that_a_streamer_repeats_is_not_an_item():
    class Texts:
        skip_prompt = False

        def __init__(self):
            self.texts = iter(["the prompt", "", "answer"])

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.texts)

    assert list(arriving(Texts())) == ["answer"]
    assert stream_items(Texts()) == ["the prompt", "", "answer"]


def test_what_is_put_into_a_streamer_is_timed(device):
    streamer = TokenStreamer()

    def generate():
        streamer.put(Ids(1, 40))
        for seconds in (0.5, 0.1, 0.1):
            device.spend(seconds)
            streamer.put(Ids(1))
        device.spend(7.0)
        streamer.end()
        return "all of it"

    times = ItemTimes(pushed(generate, streamer), device)
    stream = stream_times(RepeatedCall(generate), times, device, 3, 100.0)
    assert stream.first_item.p50.value == pytest.approx(0.5)
    assert stream.between_items.p95.value == pytest.approx(0.1)
    assert (stream.prompt_tokens, stream.output_tokens, stream.items) == (40, 3, 3)
    assert generate() == "all of it"


def test_the_tokens_that_a_test_passes_count_as_the_prompt(device):
    """An encoder-decoder puts the first token of its decoder, which is not the prompt."""
    streamer = TokenStreamer()

    def generate():
        for value in (Ids(1, 1), Ids(1), Ids(1)):
            streamer.put(value)
        streamer.end()

    times = ItemTimes(pushed(generate, streamer), device, prompt=25)
    assert stream_times(RepeatedCall(generate), times, device, 1, 1e-9).prompt_tokens == 25


def test_items_of_an_asynchronous_stream(device):
    closed = []

    async def call():
        try:
            for index in range(3):
                device.spend(0.2)
                await asyncio.sleep(0)
                yield index
        finally:
            closed.append(asyncio.get_running_loop())

    stream = items_of(call, device)
    assert stream.first_item.p50.value == stream.between_items.p50.value == pytest.approx(0.2)
    assert stream.output_tokens == 3
    consumed(call)()
    assert stream_items(call()) == [0, 1, 2]
    assert len(set(closed)) == 1, "connections of a client belong to one loop"


def test_an_asynchronous_stream_in_a_running_loop_is_refused():
    async def numbers():
        yield 1

    async def test():
        return list(synchronous(numbers()))

    with pytest.raises(AsyncStreamError, match="make the test an ordinary function"):
        asyncio.run(test())
    gc.collect()


def test_the_thread_of_a_streamer_has_ended_before_the_next_call():
    alive = []

    def call():
        alive.append(threading.active_count())
        thread = threading.Thread(target=sleep, args=(0.02,))
        thread.start()
        return iter([1])

    for make in (consumed(call), lambda: pulled(call)(lambda _: None)):
        make()
        make()
    assert len(set(alive)) == 1
