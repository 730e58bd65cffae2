import pytest

from pytest_infergate.core.domain.measurement import Peaks
from pytest_infergate.instruments import peak_rates as module
from pytest_infergate.instruments.device import Probe, Probes
from pytest_infergate.instruments.peak_rates import peaks
from pytest_infergate.testing import FakeDevice


@pytest.fixture
def device():
    return FakeDevice()


def probing(device, *, copy=None, **products):
    """Let the device have these probes: calls that all do the same work, by dtype."""
    every = {dtype: Probe(run, 1000.0) for dtype, run in products.items()}
    device.probes = lambda: Probes(every, None if copy is None else Probe(copy, 1000.0))
    return peaks(device)


def takes(device, *seconds):
    times = list(seconds)
    return lambda: device.spend(times.pop(0) if len(times) > 1 else times[0])


def fails(error):
    def run():
        raise error

    return run


def test_peaks_are_work_over_time(device):
    assert peaks(device) == Peaks(flops={"float32": pytest.approx(1e12)}, bandwidth=pytest.approx(1e11))
    assert device.released == 0


def test_peaks_of_an_accelerator_await_it_and_give_its_memory_back():
    device = FakeDevice("accel", asynchronous=True)
    device.peak_flops = {"float32": 1e13, "float16": 1e14}
    taken = peaks(device)
    assert taken.flops == {"float32": pytest.approx(1e13), "float16": pytest.approx(1e14)}
    assert taken.bandwidth == pytest.approx(1e11)
    assert device.released == 1


def test_the_best_repetition_counts(device):
    copy = takes(device, 0.01, 0.02, 0.005, 0.01)
    assert probing(device, copy=copy).bandwidth == pytest.approx(1000 / 0.005)


def test_the_first_repetition_does_not_count(device):
    copy = takes(device, 0.001, 0.01)
    assert probing(device, copy=copy).bandwidth == pytest.approx(1000 / 0.01)


def test_each_probe_takes_about_as_long_as_was_told(device):
    probing(device, copy=takes(device, 0.01), float32=takes(device, 0.01))
    assert device.fake_clock.now / 1e9 == pytest.approx(2 * (module.PROBE_SECONDS + 0.01), abs=0.021)


def test_a_slow_probe_is_repeated_all_the_same(device):
    probing(device, copy=takes(device, 5.0))
    assert device.kernels == 1 + module.MIN_REPETITIONS


def test_it_ends_for_a_probe_that_takes_no_time(device, monkeypatch):
    monkeypatch.setattr(module, "MAX_REPETITIONS", 100)
    assert probing(device, copy=lambda: None) is None


@pytest.mark.parametrize(
    "error", [RuntimeError("not implemented for 'Half'"), TypeError("no bfloat16"), MemoryError()], ids=repr
)
def test_a_dtype_that_cannot_be_multiplied_is_left_out(device, error):
    taken = probing(device, copy=takes(device, 0.01), float32=takes(device, 0.01), float16=fails(error))
    assert set(taken.flops) == {"float32"}


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError()], ids=repr)
def test_without_memory_there_are_no_peaks(device, error):
    assert probing(device, copy=fails(error), float32=takes(device, 0.01)) is None
    device.probes = fails(error)
    assert peaks(device) is None


def test_a_device_without_probes_has_no_peaks(device):
    device.probes = Probes
    assert peaks(device) is None


def test_other_errors_pass_through(device):
    with pytest.raises(ZeroDivisionError):
        probing(device, copy=lambda: 1 // 0)


# With torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def small(monkeypatch):
    """Buffers and matrices that cost no time."""
    monkeypatch.setattr(module, "ELEMENTS", 1 << 14)
    monkeypatch.setattr(module, "SIDE", 64)
    monkeypatch.setattr(module, "MANY_THREADS_SIDE", 64)


@pytest.mark.torch
def test_the_probes_of_the_cpu(torch, small):
    probes = module.torch_probes("cpu")
    assert set(probes.products) == {"float32"}
    product = probes.products["float32"]
    assert product.work == 2 * 64**3
    assert product.run().dtype == torch.float32
    assert probes.copy.work == 2 * 4 * (1 << 14)
    assert probes.copy.run() is None


@pytest.mark.torch
def test_the_user_s_random_numbers_go_on(torch, small):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    module.torch_probes("cpu").products["float32"].run()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.torch
def test_another_default_dtype_changes_nothing(torch, small):
    torch.set_default_dtype(torch.float64)
    try:
        assert module.torch_probes("cpu").products["float32"].run().dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.torch
def test_products_lie_side_by_side(torch):
    source, target = torch.ones(2000), torch.ones(2000)
    sides = [(torch.float32, 20), (torch.bfloat16, 30), (torch.float16, 30)]
    products = dict(module._products(source, target, sides))
    assert list(products) == ["float32", "bfloat16", "float16"]
    for dtype, side in sides:
        run = products[str(dtype).removeprefix("torch.")]
        assert run.work == 2 * side**3
        matrix = run.run.args[0]
        assert (matrix.dtype, matrix.shape) == (dtype, (side, side))
        assert torch.allclose(run.run().float(), matrix.float() @ matrix.float(), atol=0.5)
    assert torch.equal(source[400 + 2 * 450 :], torch.ones(700))


@pytest.mark.torch
def test_products_that_do_not_fit_are_left_out(torch):
    buffer = torch.ones(500)
    assert list(
        dict(module._products(buffer, buffer.clone(), [(torch.float32, 20), (torch.float32, 30)]))
    ) == ["float32"]


@pytest.mark.torch
def test_this_machine_has_peaks(torch, small, monkeypatch):
    from pytest_infergate.devices.cpu import Cpu

    monkeypatch.setattr(module, "PROBE_SECONDS", 0.001)
    taken = peaks(Cpu())
    assert taken.flops["float32"] > 0
    assert taken.bandwidth > 0
