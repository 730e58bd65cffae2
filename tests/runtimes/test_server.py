"""A server as a runtime: the example of the documentation against a real one, and against one that fails."""

import importlib.util
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.torch

if True:  # after the skips
    from pytest_infergate.core.domain.values import Case
    from pytest_infergate.devices.remote_server import RemoteKind
    from pytest_infergate.measure import timing_guard
    from pytest_infergate.measure.case import Effort
    from pytest_infergate.measure.invocation import Invocation
    from pytest_infergate.report.results_json import parse_results
    from pytest_infergate.runner import run
    from pytest_infergate.runtimes.eager import MeasuringPlan, has_reference, measure_invocation

EXAMPLES = Path(__file__).parents[2] / "examples"
CASE = Case(test="t.py::test_a", device="remote", runtime="server")


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)  # coverage is one


@pytest.fixture
def example(monkeypatch):
    """The conftest of the examples, as a module."""
    spec = importlib.util.spec_from_file_location("example_conftest", EXAMPLES / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def answering(example, monkeypatch):
    """Let a function answer the requests of the example."""

    def answer(handler):
        client = httpx.Client(base_url="http://service.example", transport=httpx.MockTransport(handler))
        monkeypatch.setattr(example, "CLIENT", client)
        return example

    return answer


def measured(example, target, *args, effort=None):
    plan = MeasuringPlan(runtime=example.Server())
    invocation = Invocation(target, args, {})
    return measure_invocation(CASE, RemoteKind().open("remote"), effort or Effort(0.1), invocation, plan)


def events(*deltas, usage=None, end="data: [DONE]\n\n"):
    chunks = [{"choices": [{"delta": {"content": delta}}]} for delta in deltas]
    chunks += [{"choices": [], "usage": usage}] if usage else []
    return "".join(f": keep-alive\n\ndata: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


def test_an_answer_of_an_openai_compatible_server(answering):
    requests = []
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    content = events("", "Red", None, " and blue", usage=usage)

    def handler(request):
        requests.append(json.loads(request.content))
        return httpx.Response(200, text=content)

    example = answering(handler)
    found = measured(example, example.completions, "Colours?")
    assert "".join(found.output) == "Red and blue"
    assert requests[0]["messages"] == [{"role": "user", "content": "Colours?"}]
    stream = found.measurement.stream
    assert (stream.items, stream.prompt_tokens, stream.output_tokens) == (2, 9, 4)


def test_what_is_unknown_of_a_server_is_absent_and_noted(answering, snapshot):
    model = torch.nn.Linear(4, 2)
    example = answering(lambda request: httpx.Response(200, json={"embeddings": [[1.0, 2.0]]}))
    found = measured(example, model, torch.ones(1, 4))
    assert found.output.tolist() == [[1.0, 2.0]]
    measurement = found.measurement
    assert (measurement.counters.totals, measurement.counters.weights) == ({}, {})
    assert {
        getattr(measurement.memory, name) for name in ("weights", "activations", "reserved", "host_peak")
    } == {None}
    assert (measurement.energy, measurement.threads, measurement.page_faults, measurement.reference_work) == (
        None, None, None, {},
    )  # fmt: skip
    assert [str(note) for note in measurement.notes if note.code == "not-counted"] == snapshot
    assert model.training, "the local model is not used"
    assert has_reference(CASE, Invocation(model, ()))
    assert not has_reference(CASE, Invocation(example.completions, ())), "a client is no local model"


def reset(request):
    def content():
        yield events("Red", end="").encode()
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    return httpx.Response(200, content=content())


FAILURES = {
    "500": (lambda request: httpx.Response(500, text="out of memory"), "500 Internal Server Error.*http://service.example"),
    "an event of an error": (
        lambda request: httpx.Response(200, text='data: {"error": "the model is overloaded"}\n\n'),
        "the model is overloaded",
    ),
    "no JSON": (lambda request: httpx.Response(200, text="data: <html>\n\n"), "Expecting value"),
    "the end is missing": (lambda request: httpx.Response(200, text=events("Red", end="")), r"ended before \[DONE\]"),
    "a reset": (reset, "peer closed connection"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_server_that_fails_fails_the_test(answering, name):
    handler, message = FAILURES[name]
    example = answering(handler)
    with pytest.raises(Exception, match=message):
        measured(example, example.completions, "Colours?")


def test_the_call_that_failed_is_named(answering):
    answers = iter([httpx.Response(200, text=events("Red"))])

    def handler(request):
        try:
            return next(answers)
        except StopIteration:
            raise httpx.ConnectError("[Errno 111] Connection refused") from None

    example = answering(handler)
    with pytest.raises(httpx.ConnectError) as caught:
        measured(example, example.completions, "Colours?")
    assert "raised in call 2; call 1 passed" in caught.value.__notes__[0]


def test_a_service_that_is_down_is_absent(answering):
    def refuse(request):
        raise httpx.ConnectError("[Errno 111] Connection refused")

    reason = answering(refuse).Server().absence_reason()
    assert re.fullmatch(
        r"no service at http://service.example/?: .*refused. Hint: start it, or set SERVICE_URL", reason
    )
    unhealthy = answering(lambda request: httpx.Response(503)).Server().absence_reason()
    assert "503 Service Unavailable" in unhealthy
    assert answering(lambda request: httpx.Response(200)).Server().absence_reason() is None


def test_the_documentation_has_the_example():
    code = (EXAMPLES / "conftest.py").read_text()
    assert f"```python\n{code}```" in (EXAMPLES.parent / "docs" / "runtimes.md").read_text()
    assert len([line for line in code.splitlines() if line and not line.startswith('"""')]) <= 40


TESTS = """
    import pytest
    import torch

    class Model(torch.nn.Module):
        def forward(self, x):
            return x.double().cumsum(-1).float() * 1.1

    @pytest.mark.inference(batch_sizes=[2], budget={"p50_ms": 5000, "weights_mb": 10})
    def test_embed(infer):
        assert infer(Model(), torch.ones(infer.batch_size, 3)).output.shape == (infer.batch_size, 3)

    @pytest.mark.inference(
        runtimes=["server"], budget={"ttft_ms": 5000, "itl_p95_ms": 5000, "tokens_per_s": 0.1, "tpot_ms": 5000}
    )
    def test_chat(infer, chat):
        result = infer(chat, "Name three colours.", max_tokens=5)
        assert len("".join(result.output).split()) == 5
"""


@pytest.fixture(scope="module")
def service_url():
    """The service of the examples, with a small model in place of MiniLM."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    pytest.importorskip("transformers")
    sys.path.insert(0, str(EXAMPLES))
    try:
        from infergate_examples.service import service
    finally:
        sys.path.remove(str(EXAMPLES))
    app = service(embedder=lambda x: x.double().cumsum(-1).float() * 1.1)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


def test_a_deployed_service_keeps_the_budgets_of_the_tests(project, torch_kept, service_url, monkeypatch):
    monkeypatch.setenv("SERVICE_URL", service_url)
    monkeypatch.setattr(run, "peaks", lambda device: None)  # which take a second
    conftest = project.path / "conftest.py"
    conftest.write_text((EXAMPLES / "conftest.py").read_text() + conftest.read_text())
    project.pytester.makepyfile(test_deployed=TESTS)
    arguments = ["--infer-devices=cpu,ghost", "--infer-runtimes=eager,server", "--infer-max-time=0.3"]
    result = project.run(*arguments, "--infer-json=r.json", "-W", "ignore")
    session = parse_results((project.path / "r.json").read_bytes(), "r.json")
    cases = {each.nodeid.partition("::")[2]: each for each in session.cases}
    # Each batch size once, whatever the number of devices.
    remote = {name: each for name, each in cases.items() if "remote" in name}
    assert set(remote) == {"test_embed[remote-server-b2]", "test_chat[remote-server]"}
    assert {each.outcome.value for each in remote.values()} == {"measured"}, result.stdout.str()
    served = cases["test_embed[remote-server-b2]"]
    assert served.measurement.parity.error == 0.0
    assert [budget.metric for budget in served.budgets] == ["p50_ms"], "weights are those of the local case"
    stream = cases["test_chat[remote-server]"].measurement.stream
    assert (stream.prompt_tokens, stream.output_tokens) == (3, 5)
    assert 0 < stream.first_item.p50.value < 5

    # Without options, the model runs here, and the chat there.
    project.run("-W", "ignore").assert_outcomes(passed=2)
