"""Streams of `generate` of transformers, on a small model: what is counted, and what is timed."""

import threading

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

if True:  # after the skips
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.devices.cpu import CpuKind
    from pytest_infergate.measure import timing_guard
    from pytest_infergate.measure.case import Effort, measure
    from pytest_infergate.measure.counters_only import count_only
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.tokens import TokenStreamer
    from pytest_infergate.runtimes.eager import MeasuringPlan, measure_invocation, torch_threads

PROMPT, ANSWER, WIDTH, VOCABULARY = 16, 12, 32, 100
CASE = Case(test="t.py::test_a", device="cpu")


@pytest.fixture(scope="module")
def model():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    limits = {"min_new_tokens": ANSWER, "max_new_tokens": ANSWER, "do_sample": False, "pad_token_id": 0}
    model.generation_config.update(**limits)
    return model


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)  # coverage is one
    with torch_threads(1):  # small operators of several threads are slow on a busy machine
        yield


def measured(target, *args, course=measure, **kwargs):
    invocation = Invocation(target, args, kwargs, streamer=kwargs.get("streamer"))
    return measure_invocation(CASE, CpuKind().open("cpu"), Effort(0.3), invocation, MeasuringPlan(course))


def counted(target, *args, **kwargs):
    """Counters do not depend on the speed of the machine."""
    return measured(target, *args, course=count_only, **kwargs).measurement


IDS = torch.arange(1, PROMPT + 1)[None]


def flops(tokens, heads):
    """FLOPs of tokens that pass through the layers, without attention, and of the last layer for `heads` of them."""
    return tokens * 2 * (4 * WIDTH**2 + 3 * WIDTH**2) + heads * 2 * WIDTH * VOCABULARY


def test_work_and_tokens_with_and_without_a_key_value_cache(model):
    outputs = []
    for use_cache in (True, False):
        run = measured(model.generate, IDS, streamer=TokenStreamer(), use_cache=use_cache)
        outputs.append(run.output)
        stream = run.measurement.stream
        assert (run.invalid, run.output.shape) == (None, (1, PROMPT + ANSWER))
        assert (stream.prompt_tokens, stream.output_tokens, stream.items) == (PROMPT, ANSWER, ANSWER)
        assert stream.between_items.count == (ANSWER - 1) * stream.first_item.count
    # Attention is linear in the length of the text for one token, and quadratic for a whole text.
    layers = {True: PROMPT + ANSWER - 1, False: sum(range(PROMPT, PROMPT + ANSWER))}
    for use_cache, tokens in layers.items():
        found = counted(model.generate, IDS, streamer=TokenStreamer(), use_cache=use_cache)
        work = [each.flops for each in found.counters.operators if "attention" not in each.operator]
        assert sum(work) == pytest.approx(flops(tokens, ANSWER), rel=0.02), use_cache
    assert torch.equal(*outputs)


class Words:
    """Decodes as a tokenizer does."""

    def decode(self, ids, **_):
        return "".join(f"{int(index)} " for index in ids)


def test_the_work_of_a_thread_is_noted_and_not_lost(model):
    def chat():
        streamer = transformers.TextIteratorStreamer(Words())
        threading.Thread(target=model.generate, kwargs={"inputs": IDS, "streamer": streamer}).start()
        return streamer

    run = measured(chat)
    stream = run.measurement.stream
    assert run.invalid is None
    assert run.output[0].split() == [str(index) for index in range(1, PROMPT + 1)]
    # The prompt is repeated, and the last text is empty.
    assert (stream.items, len(run.output)) == (ANSWER, ANSWER + 2)
    assert stream.output_tokens is None
    found = counted(chat)
    assert "flops" not in found.counters.totals
    (unseen,) = (note for note in found.notes if note.code == "operators-unseen")
    assert "streamer=infer.streamer" in unseen.hint
    assert not [note for note in found.notes if note.code == "training-mode"]


def test_texts_of_a_streamer_of_the_user_are_timed(model):
    streamer = TokenStreamer()
    streamer.inner = transformers.TextIteratorStreamer(Words(), skip_prompt=True)
    stream = measured(model.generate, IDS, streamer=streamer).measurement.stream
    assert (stream.output_tokens, stream.prompt_tokens) == (ANSWER, PROMPT)
    assert streamer.inner.text_queue.empty()
