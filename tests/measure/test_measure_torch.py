"""Parts of measuring that are made for torch, with the real one. Nothing depends on how long a call takes."""

import random
import sys

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.devices.cpu import Cpu
    from pytest_infergate.instruments.reference_work import torch_reference_work
    from pytest_infergate.measure import timing_guard
    from pytest_infergate.measure.case import Effort, Subject, measure
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.memory import is_out_of_memory
    from pytest_infergate.measure.placement import placed
    from pytest_infergate.measure.seed import SEED, seed_all
    from pytest_infergate.testing import FakeDevice


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)


def measured(call, seconds=0.1, device=None):
    """Measure a call that takes so long on a fake device, beside what it really does."""
    device = device or FakeDevice()

    def timed():
        device.spend(seconds)
        return call()

    return measure(Subject(timed), device, Effort(5))


# The first result


def test_the_output_is_that_of_the_first_call_though_its_buffer_is_used_again():
    buffer = torch.zeros(1)
    assert measured(lambda: buffer.add_(1)).output.item() == 1


def test_each_item_of_a_stream_is_its_own():
    buffer = torch.zeros(1)

    def stream():
        for _ in range(3):
            yield {"logits": buffer.add_(1)}

    assert [item["logits"].item() for item in measured(stream).output] == [1, 2, 3]


# Random numbers


def test_torch_is_seeded_and_restored():
    torch.manual_seed(99)
    expected = torch.rand(1)
    torch.manual_seed(99)
    put_back = seed_all()
    first = torch.rand(1)
    put_back()
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, torch.rand(1, generator=torch.Generator().manual_seed(SEED)))


def test_the_seed_is_the_one_that_torch_sets_everywhere():
    put_back = seed_all()
    first = torch.rand(3)
    torch.manual_seed(SEED)
    assert torch.equal(first, torch.rand(3))
    put_back()


def test_python_s_numbers_too():
    put_back = seed_all()
    assert random.random() == random.Random(SEED).random()
    put_back()


# Yardsticks


def test_reference_work_run():
    reference_work = torch_reference_work("cpu")
    assert list(reference_work) == ["compute", "copy", "dispatch", "threads"]
    with torch.inference_mode():
        for reference in reference_work.values():
            reference()
    for reference in reference_work.values():
        reference()


def test_reference_work_do_not_depend_on_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert torch_reference_work("cpu")["compute"]().dtype == torch.float32
        assert torch_reference_work("cpu")["copy"]().dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


# Compiled models


class Counts(nn.Module):
    """Is compiled anew for every number of calls up to a limit."""

    def __init__(self, most):
        super().__init__()
        self.calls, self.most = 0, most

    def forward(self, x):
        if self.calls < self.most:
            self.calls += 1
        return x * self.calls


@pytest.fixture
def compiled():
    import torch._dynamo

    torch._dynamo.reset()
    yield lambda model: torch.compile(model.eval(), backend="eager")
    torch._dynamo.reset()


def run(model):
    with placed(Invocation(model, (torch.ones(2),)), "cpu") as ready:
        return measured(ready.call)


def test_a_compiled_model_is_valid(compiled):
    assert run(compiled(Counts(1))).invalid is None


def test_a_model_that_is_compiled_anew_by_each_call_is_invalid(compiled):
    invalid = run(compiled(Counts(10**6))).invalid
    assert invalid.code == "recompiled"


def test_graphs_are_counted(compiled):
    model = compiled(nn.ReLU())
    compilations = timing_guard.GraphCounter()
    model(torch.ones(2))
    assert compilations.since() == 1
    model(torch.ones(2))
    assert compilations.since() == 0
    model(torch.ones(3, 3))
    assert compilations.since() == 1


# Memory that runs out


def test_an_allocation_beyond_all_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_torch_s_own_error_is_recognised():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


# The CPU's memory


def test_the_allocator_s_peak_is_exact():
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256)).eval()
    x = torch.ones(32, 256)
    with torch.inference_mode():
        model(x)
        peaks = {Cpu().memory(lambda: model(x)).activations for _ in range(5)}
    # The hidden layer twice, before and after the ReLU; the output when one of them is gone.
    assert peaks == {2 * 32 * 1024 * 4}


def test_state_that_each_call_replaces_is_no_growth():
    windows = [torch.zeros(100, 100) for _ in range(4)]
    row = torch.ones(1, 100)

    def call():
        for place, window in enumerate(windows):
            windows[place] = torch.cat([window[1:], row])

    call()
    assert Cpu().memory(call).activations == 100 * 100 * 4


def test_state_that_grows_counts_in_the_peak():
    kept = []
    assert Cpu().memory(lambda: kept.append(torch.zeros(100))).activations == 400
    assert len(kept) == 3  # one call, and another two in succession


def test_memory_in_place_is_counted_once():
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(inplace=True)).eval()
    x = torch.ones(32, 256)
    with torch.inference_mode():
        assert Cpu().memory(lambda: model(x)).activations == 32 * 1024 * 4


def test_memory_from_before_the_call_is_not_seen_going():
    held = [torch.ones(1 << 20)]

    def call():
        held.clear()
        return torch.ones(1 << 10)

    assert Cpu().memory(call).activations == 4 << 10


def test_a_call_that_allocates_nothing():
    assert Cpu().memory(lambda: None) == (0, None, 0, None)


def test_allocations_are_counted():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.ReLU(inplace=True)).eval()
    x = torch.ones(2, 8)
    with torch.inference_mode():
        assert Cpu().memory(lambda: model(x)).allocations == 2


def test_exceptions_pass_through_the_profiler():
    with pytest.raises(KeyError):
        Cpu().memory(lambda: {}["model"])
    assert not torch.autograd._profiler_enabled()


def test_torch_s_profiler_is_seen(monkeypatch):
    monkeypatch.undo()
    tracer, profiler = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
            note = timing_guard.tracer_note()
    finally:
        sys.setprofile(profiler)
        sys.settrace(tracer)
    assert note.code == "tracer"


def test_a_real_module_on_the_real_cpu():
    cpu = Cpu()
    with placed(Invocation(nn.Linear(8, 4), (torch.ones(2, 8),)), "cpu") as ready:
        run = measure(Subject(ready.call, batch_size=2, weights=ready.weights), cpu, Effort(5))
    assert run.invalid is None
    assert run.output.shape == (2, 4)
    assert run.measurement.memory.activations == 2 * 4 * 4
    assert run.measurement.memory.weights == 36 * 4
    assert run.measurement.counters.totals["flops"] == 2 * 2 * 8 * 4
    assert run.measurement.counters.architecture == torch.backends.cpu.get_cpu_capability()
    assert set(run.measurement.reference_work) == {"compute", "copy", "dispatch", "threads"}
    assert run.measurement.latency.count == len(run.samples) > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_real_model_without_the_network():
    silero_vad = pytest.importorskip("silero_vad")
    model = silero_vad.load_silero_vad()
    with placed(Invocation(model, (torch.zeros(1, 512), 16000)), "cpu") as ready:
        first = ready.call().clone()
        ready.call()
        assert ready.weights()["float32"] > 0
        assert ready.unsettled
    assert first.shape == (1, 1)
