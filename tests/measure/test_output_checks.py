import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from pytest_infergate.measure import output_checks
    from pytest_infergate.measure.output_checks import gradients_note, unsound_output_note


def words(first, last=None, device="cpu"):
    note = unsound_output_note(first, first if last is None else last, device)
    return None if note is None else (note.code, note.text)


@pytest.mark.parametrize("output", [None, 1.5, "text", [], torch.ones(2), {"a": [torch.ones(2)]}], ids=repr)
def test_sound_results(output):
    assert words(output) is None


def test_a_result_on_another_device_is_named(snapshot):
    found = words(torch.ones(2, device="meta")), words([torch.ones(2)], device="cuda:0")
    assert [code for code, _ in found] == ["wrong-device"] * 2
    assert [text for _, text in found] == snapshot


def test_one_stray_among_many_is_found():
    assert words([torch.ones(1), {"a": torch.ones(1, device="meta")}])[0] == "wrong-device"


def test_a_device_that_moves_nothing_expects_none():
    assert words(torch.ones(2, device="meta"), device=None) is None


def test_nan_is_counted():
    output = [torch.tensor([1.0, float("nan")]), torch.tensor([complex(float("nan"), 0)])]
    assert words(output)[0] == "nan-output"
    assert "2 of 3" in words(output)[1]
    assert words(torch.tensor([float("inf")])) is None


def test_nan_of_later_calls_is_found():
    code, text = words(torch.ones(2), torch.tensor([1.0, float("nan")]))
    assert (code, "later" in text) == ("nan-output", True)
    assert "later" not in words(torch.tensor([float("nan")]))[1]


class Answer:
    def __init__(self, held):
        self.held = held


def test_nan_is_found_in_everything_that_holds_numbers():
    numpy = pytest.importorskip("numpy")
    nan = float("nan")
    for held in (nan, complex(0, nan), numpy.float32(nan), numpy.array([nan, 1]), torch.tensor(nan)):
        for output in (held, {"a": [held]}, Answer(held), (Answer({"b": held}), 1)):
            assert words(output)[0] == "nan-output", output


def test_shapes_are_seen_in_arrays_and_objects():
    numpy = pytest.importorskip("numpy")
    assert words(Answer(torch.ones(2)), Answer(torch.ones(3)))[0] == "shape-changed"
    assert words(numpy.ones(2), numpy.ones(2, dtype="f4"))[0] == "shape-changed"
    assert words(numpy.ones(2), torch.ones(2))[0] == "shape-changed"
    assert words([Answer(numpy.ones(2))], [Answer(numpy.zeros(2))]) is None


def test_work_that_changes_from_call_to_call(snapshot):
    lasts = torch.ones(3), torch.ones(2).half(), [torch.ones(2)] * 2, "nothing"
    found = [words(torch.ones(2), last) for last in lasts]
    assert [code for code, _ in found] == ["shape-changed"] * 4
    assert [text for _, text in found] == snapshot


def test_values_may_change():
    assert words(torch.ones(2), torch.zeros(2)) is None


def test_gradients_are_noted():
    weight = torch.nn.Parameter(torch.ones(2))
    for output in ([1, {"a": weight * 2}], Answer(weight * 2)):
        assert gradients_note(output).code == "gradients-on"
    assert gradients_note(Answer(weight)) is None
    with torch.no_grad():
        assert gradients_note(weight * 2) is None
    assert gradients_note(None) is None


@pytest.fixture
def threads(monkeypatch):
    """The threads of torch; this process has measured no case."""
    monkeypatch.setattr(output_checks, "_FIRST_THREADS", {})
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_torch_as_it_starts_is_not_unusual(threads):
    assert output_checks.torch_state_note() is None


def test_other_threads_than_in_the_first_case_are_noted(threads):
    assert output_checks.torch_state_note(threads) is None
    assert output_checks.torch_state_note() is None
    torch.set_num_threads(threads + 1)
    assert f"{threads + 1} threads instead of {threads}" in output_checks.torch_state_note().text
    assert output_checks.torch_state_note(threads + 1) is None
    assert output_checks.threads_note(threads).code == "torch-state"
    assert output_checks.threads_note(threads + 1) is None


@pytest.fixture
def restored(threads):
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.backends.mha.set_fastpath_enabled(True)
    torch.backends.mkldnn.enabled = True
    torch.backends.mkldnn.deterministic = False
    for name, value in {
        "enabled": True,
        "benchmark": False,
        "deterministic": False,
        "allow_tf32": True,
    }.items():
        setattr(torch.backends.cudnn, name, value)
    torch.backends.cuda.enable_math_sdp(True)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(False)
    torch.autograd.set_detect_anomaly(False)
    assert output_checks.torch_state_note() is None


@pytest.mark.parametrize(
    "set_",
    [
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_device("cpu"),
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.backends.mha.set_fastpath_enabled(False),
        lambda: setattr(torch.backends.mkldnn, "enabled", False),
        lambda: setattr(torch.backends.mkldnn, "deterministic", True),
        lambda: setattr(torch.backends.cudnn, "enabled", False),
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: setattr(torch.backends.cudnn, "deterministic", True),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: torch.backends.cuda.enable_math_sdp(False),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.set_flush_denormal(True),
        lambda: torch.autograd.set_detect_anomaly(True),
    ],
    ids=[
        "dtype",
        "device",
        "deterministic",
        "attention",
        "mkldnn",
        "mkldnn deterministic",
        "cudnn",
        "benchmark",
        "cudnn deterministic",
        "tf32",
        "sdpa",
        "precision",
        "subnormal",
        "anomaly",
    ],
)
def test_what_another_test_left_in_torch_is_said(restored, snapshot, set_):
    set_()
    assert output_checks.torch_state_note().text == snapshot


def test_an_open_autocast_is_said():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "autocast" in output_checks.torch_state_note().text
