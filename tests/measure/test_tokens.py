"""How many tokens an item or a prompt has."""

import queue

import pytest

from pytest_infergate.measure.tokens import TokenStreamer, prompt_tokens, tokens_in

np = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    ("item", "batch_size", "tokens"),
    [
        (7, 1, 1),
        (True, 1, None),
        (7.0, 1, None),
        ("text", 1, None),
        (np.zeros((), dtype=np.int64), 1, 1),
        (np.zeros(3, dtype=np.int32), 1, 3),
        (np.zeros((1, 3), dtype=np.int64), 8, 3),
        (np.zeros((8, 3), dtype=np.int64), 8, 24),
        (np.zeros((9, 16), dtype=np.int64), 8, None),  # a map of classes
        (np.zeros((1, 3, 3), dtype=np.int64), 1, None),
        (np.zeros(3, dtype=np.float32), 1, None),
        (np.zeros(3, dtype=bool), 1, None),
        ([1, 2, 3], 1, None),
        (None, 1, None),
    ],
)
def test_tokens_are_integers_of_one_row_or_of_one_row_for_each_item(item, batch_size, tokens):
    assert tokens_in(item, batch_size) == tokens


IDS = np.ones((2, 6), dtype=np.int64)
MASK = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("args", "kwargs", "tokens"),
    [
        ((), {"input_ids": IDS}, 12),
        ((), {"inputs": IDS, "max_new_tokens": 9}, 12),
        ((), {"input_ids": IDS, "attention_mask": MASK}, 10),  # without padding
        ((), {"input_ids": IDS, "attention_mask": MASK[:1]}, 12),
        (({"input_ids": IDS, "attention_mask": MASK},), {}, 10),
        ((IDS,), {"top_k": 9}, 12),
        ((IDS, 64), {}, 12),
        ((IDS, IDS), {}, None),  # one of them may be anything
        ((np.ones((2, 6)),), {}, None),
        (("a text",), {"input_ids": None}, None),
        ((), {}, None),
    ],
)
def test_the_prompt_is_found_among_the_arguments(args, kwargs, tokens):
    assert prompt_tokens(args, kwargs, 2) == tokens


def test_a_streamer_of_the_user_is_passed_everything_and_keeps_no_text():
    class Texts:
        def __init__(self):
            self.text_queue = queue.Queue()

        def put(self, value):
            self.text_queue.put(value)

        def end(self):
            self.text_queue.put(None)

    streamer, taken = TokenStreamer(), []
    streamer.inner = Texts()
    for _ in range(2):
        with streamer.taking(taken.append):
            streamer.put(np.ones((1, 4), dtype=np.int64))
            streamer.put(5)
            assert streamer.inner.text_queue.qsize() == 2
            streamer.end()
        assert streamer.inner.text_queue.empty()
    assert taken == [(4, None), 5, (4, None), 5]
    streamer.put(6)
    assert len(taken) == 4
