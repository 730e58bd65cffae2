"""State that changes with every call, and work that only some calls do."""

import itertools
import warnings

import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")
# torch has deprecated TorchScript.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

if True:  # after the skip
    from torch import nn

    from pytest_infergate.core.domain.measurement import Counters
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.instruments.device import DeviceMemory
    from pytest_infergate.instruments.timed_calls import RepeatedCall
    from pytest_infergate.measure import same_work
    from pytest_infergate.measure.advancing_state import watch
    from pytest_infergate.measure.case import Effort, measure
    from pytest_infergate.measure.counters_only import count_only
    from pytest_infergate.measure.counting import CountedCall
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.measure.same_work import ObservedWork, SameWork
    from pytest_infergate.measure.time_limit import TimeLimit
    from pytest_infergate.runtimes.eager import prepared
    from pytest_infergate.testing import FakeDevice


class Streaming(nn.Module):
    """A chunk at a time; the encoder runs when the ring buffer is full."""

    def __init__(self, hop):
        super().__init__()
        self.register_buffer("ring", torch.zeros(hop, 8))
        self.filled = 0
        self.hop = hop
        self.chunk_layer, self.encoder = nn.Linear(8, 1), nn.Linear(8, 4)

    def forward(self, chunk):
        self.ring[self.filled % self.hop] = chunk
        self.filled += 1
        speech = self.chunk_layer(chunk)
        return speech, self.encoder(self.ring) if self.filled % self.hop == 0 else None


class Remembering(nn.Module):
    """A new object of the same value after each call."""

    def forward(self, x):
        self.last, self.shape, self.info = x + 1, [x.shape], {"mean": numpy.float64(2)}
        return self.last


class Service:
    """State in a plain object, beside its module."""

    def __init__(self):
        self.module = nn.Linear(8, 8)
        self.ids = itertools.count()
        self.scores = numpy.zeros(2)

    def predict(self, x):
        next(self.ids)
        self.scores[0] += 1
        return self.module(x)


class Periodic(nn.Module):
    """Other work in each twelfth call, of which nothing but an iterator knows."""

    def __init__(self):
        super().__init__()
        self.full = itertools.cycle([False] * 11 + [True])
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(self.layer(x)) if next(self.full) else self.layer(x)


class Adapting(nn.Module):
    """Keeps what it learns in parameters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8), requires_grad=False)
        self.unchanged = nn.Linear(8, 8)

    def forward(self, x):
        self.scale.mul_(0.5)
        return self.unchanged(x) * self.scale


class Scripted(nn.Module):
    """State that TorchScript holds in objects of its own."""

    def __init__(self):
        super().__init__()
        self.filled = 0
        self.hop = 16
        self.lengths = torch.jit.Attribute([0], list[int])
        self.register_buffer("ring", torch.zeros(16, 8))
        self.register_buffer("table", torch.ones(8))
        self.front, self.encoder = nn.Linear(8, 4), nn.Sequential(nn.Linear(128, 64), nn.BatchNorm1d(64))

    def forward(self, x):
        self.ring[self.filled % self.hop] = x[0]
        self.filled += 1
        self.lengths.append(x.size(0))
        speech = self.front(x * self.table)
        if self.filled % self.hop == 0:
            speech = speech + self.encoder(self.ring.view(1, 128))[:, :4]
        return speech


def closure():
    history = []
    step = 0
    layer = nn.Linear(8, 8)

    def call(x):
        nonlocal step
        step += 1
        history.append(step)
        return layer(x)

    return call


def rolled():
    module = nn.Linear(8, 8)
    module.register_buffer("ring", torch.arange(4.0))

    def forward(x):
        module.ring = module.ring.roll(1)
        return nn.functional.linear(x, module.weight)

    module.forward = forward
    return module


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Streaming(4), ("filled", "ring")),
        (Remembering, ()),
        (lambda: nn.BatchNorm1d(8).eval(), ()),
        (lambda: nn.BatchNorm1d(8).train(), ("num_batches_tracked", "running_mean", "running_var")),
        (lambda: Service().predict, ("ids", "scores")),
        (closure, ("history", "step")),
        (rolled, ("ring",)),
        (Periodic, ("cycle",)),
        (Adapting, ("parameter scale",)),
        (lambda: torch.jit.script(Adapting()), ("parameter scale",)),
        (lambda: torch.jit.script(Scripted().eval()), ("filled", "lengths", "ring")),
        (lambda: torch.jit.trace(nn.BatchNorm1d(8).eval(), torch.ones(3, 8)), ()),
    ],
)
def test_changes_between_two_calls_are_named(make, names):
    target = make()
    x = torch.ones(8) if isinstance(target, Streaming) else torch.ones(3, 8)
    target(x)
    advanced = watch(target)
    assert advanced() in ((), ("cycle",))
    target(x)
    assert advanced() == names


def run(course, model, x, seconds=5.0):
    device = FakeDevice()
    case = Case(test="t.py::test_a", device="cpu")
    with prepared(case, device, Invocation(model.eval(), (x,), {}, "inference_mode")) as (subject, _, _):
        slow = subject._replace(call=lambda: (device.spend(0.001), subject.call())[1])
        return course(slow, device, Effort(seconds))


@pytest.mark.parametrize("course", [measure, count_only])
@pytest.mark.parametrize("hop", [2, 5, 64, 120])
def test_work_of_each_nth_call_makes_a_case_invalid(course, hop):
    outcome = run(course, Streaming(hop), torch.ones(8))
    assert outcome.invalid is not None
    assert outcome.invalid.code == "work-changed"
    assert hop < 10 or "filled" in outcome.invalid.hint  # the other checks see it as well, if it is frequent


@pytest.mark.parametrize("course", [measure, count_only])
def test_work_that_an_iterator_chooses_makes_a_case_invalid(course):
    assert run(course, Periodic(), torch.ones(3, 8)).invalid.code == "work-changed"


class Reusing(nn.Module):
    """Keeps what an encoder returned."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head, self.kept = encoder, head, {}

    def forward(self, x):
        if "x" not in self.kept:
            self.kept["x"] = self.encoder(x)
        return self.head(self.kept["x"])


def layers():
    return nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)]).eval()


def quantised(model):
    warnings.simplefilter("ignore")  # torch has deprecated it
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Reusing(torch.jit.script(layers()), nn.Linear(8, 1)), "FLOPs in call 1"),
        (lambda: Reusing(layers(), nn.LazyLinear(1)), "in call 1, "),
        (lambda: quantised(Reusing(layers(), nn.Linear(8, 1))), "5 products in call 1, 1 in call"),
        (lambda: Reusing(layers(), nn.Linear(8, 1)), "5 products in call 1, 1 in call"),
    ],
    ids=["torchscript", "lazy", "quantised", "eager"],
)
@pytest.mark.parametrize("course", [measure, count_only])
def test_later_calls_that_reuse_products_of_the_first_make_a_case_invalid(course, make, what):
    outcome = run(course, make(), torch.ones(3, 8))
    assert outcome.invalid is not None
    assert what in outcome.invalid.text


@pytest.mark.parametrize("course", [measure, count_only])
def test_copies_of_cheap_items_are_no_work_of_a_stream(course):
    class Steps(nn.Module):
        def forward(self, x):
            for _ in range(20):
                x = x * 0.5
                yield x

    assert run(course, Steps(), torch.ones(3, 8)).invalid is None


@pytest.mark.parametrize("course", [measure, count_only])
def test_work_of_each_nth_call_is_seen_in_torchscript(course):
    module = torch.jit.script(Scripted().eval())
    with torch.no_grad():
        for _ in range(32):  # both ways are optimised
            module(torch.ones(3, 8))
    outcome = run(course, module, torch.ones(3, 8))
    assert outcome.invalid.code == "work-changed"


def test_parameters_that_refuse_to_be_read_are_watched():
    lazy = nn.ModuleList([nn.Linear(8, 8), nn.LazyLinear(8)])
    advanced = watch(lazy)
    with torch.no_grad():
        lazy[0].bias.add_(1)
    assert advanced() == ("parameter bias",)


def test_parameters_that_a_call_changes_are_noted_as_not_restored():
    outcome = run(count_only, Adapting(), torch.ones(3, 8))
    [note] = [note for note in outcome.measurement.notes if note.code == "state-advances"]
    assert "parameter scale" in note.text
    assert "not restored" in note.text


@pytest.mark.parametrize("graphs", [0, 1])
def test_other_work_of_a_compiled_model_is_of_its_compilation_or_of_its_state(monkeypatch, graphs):
    works, made = iter([10, 10, 10, 10, 99]), [0]
    monkeypatch.setattr(same_work, "STATE_CALLS", 4)
    monkeypatch.setattr(same_work, "graph_count", lambda: made[0])

    def observe(call, *, sizes):
        operators = next(works)
        made[0] += graphs * (operators == 99)
        return call(), ObservedWork(operators, 1, None)

    class Compiled:
        def counters(self):
            return {"graphs": 1}

    work = SameWork(observe, lambda: lambda: ("filled",))
    call = RepeatedCall(lambda: "output")
    work.first_call(call)
    exact = CountedCall(Counters(), DeviceMemory(), ())
    counted, invalid = work.check(exact, call, Compiled(), TimeLimit(FakeDevice().clock, 1.0))
    if graphs:
        assert invalid is None
        assert [note.code for note in counted.notes] == ["state-advances"]
    else:
        assert invalid.code == "work-changed"


@pytest.mark.parametrize("course", [measure, count_only])
def test_state_without_effect_on_the_work_is_noted(course):
    model = nn.Linear(8, 8)
    model.register_buffer("calls", torch.zeros(()))
    model.register_forward_hook(lambda module, *_: module.calls.add_(1))
    outcome = run(course, model, torch.ones(3, 8))
    assert outcome.invalid is None
    [note] = [note for note in outcome.measurement.notes if note.code == "state-advances"]
    assert "(calls): 128 calls" in note.text


def test_the_time_for_further_calls_is_limited():
    model = Streaming(200)
    outcome = run(measure, model, torch.ones(8), seconds=0.1)
    [note] = [note for note in outcome.measurement.notes if note.code == "state-advances"]
    assert ": 11 calls" in note.text
