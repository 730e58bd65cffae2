"""Results files from elsewhere: a message or an answer, never a traceback, and no file but the one asked for."""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from json_changes import put
from sessions import SWEEP, answer, given, plan, unmet
from test_commands_on_results import PRICES, measured, session

from pytest_infergate.cli import main
from pytest_infergate.cli.exit_codes import ExitCode
from pytest_infergate.core.advice import planning, sensitivity, sizing, staircase
from pytest_infergate.core.domain.advice_values import CostPoint, Crossing, Demand, Sensitivity
from pytest_infergate.core.domain.outcome import Against, Outcome, Verdict
from pytest_infergate.core.domain.values import SCHEMA_VERSION, Case, Hardware, Note
from pytest_infergate.report import results_json

ADVISE = ["advise", "--demand", "2/s", "--p95-ms", "200", *PRICES]
COMMANDS = {
    "merge": ["merge"],
    "gate": ["gate"],
    "report": ["report"],
    "advise": ADVISE,
    "markdown": [*ADVISE, "--format", "markdown"],
    "json": [*ADVISE, "--format", "json"],
    "html": [*ADVISE, "--format", "html"],
    "backlog": ["advise", "--items", "1e6", "--deadline", "2h", *PRICES],
}
READERS = ("merge", "gate", "report", "advise")
"""Commands that read in different ways; the other forms of advice read as the first does."""
NO_NUMBER = re.compile(r"(?i)(?<![\w.])[-+]?(?:inf|infinity|nan)(?!\w)")
every_command = pytest.mark.parametrize("command", COMMANDS)
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short simulations, and no wait for the disk: plans and whole files are tested elsewhere."""
    monkeypatch.setattr(planning, "PLAN_REQUESTS", 20)
    monkeypatch.setattr(sensitivity, "COST_STEPS", 2)
    monkeypatch.setattr(staircase, "EDGE_PRECISION", 1.5)
    monkeypatch.setattr(sizing, "MAX_REQUESTS", 200)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@contextmanager
def naming(*case):
    """Name a case of a table in whatever fails of it."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        raise AssertionError(f"{', '.join(case)}: {error}") from error


class Told:
    """What a command said, and the file it wrote."""

    def __init__(self, code, out, err, written):
        self.code = code
        self.out = out
        self.err = err
        self.written = written

    @property
    def everything(self):
        return "\n".join((self.out, self.err, self.written or ""))


@pytest.fixture
def answer_of(tmp_path, monkeypatch, capsys):
    """Run a command on a file with this text, and insist on what holds of every run."""
    here = tmp_path / "a" / "b" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    source, output = here / "results.json", here / "output"

    def run(command, text):
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        output.write_text("before")
        before = set(tmp_path.rglob("*"))
        into = [] if command == "gate" else ["-o", str(output)]
        with pytest.raises(SystemExit) as done:
            main.main([*COMMANDS[command], str(source), *into])
        code = done.value.code or 0
        out, err = capsys.readouterr()
        assert set(tmp_path.rglob("*")) == before
        written = output.read_text()
        if code == ExitCode.USAGE:
            assert out == ""
            assert written == "before"
            assert err.startswith("Error: ")
        elif command == "gate":
            assert (code in (0, 1, 2), written, err) == (True, "before", "")
        else:
            assert (code, out, err) == (0, "", f"wrote {output}\n")
        assert "Traceback" not in err
        return Told(code, out, err, None if written == "before" else written)

    return run


def document(*found):
    """A results file as its JSON says it."""
    return json.loads(
        results_json.render_results(session(*(found or (measured(0.02), measured(0.12, batch_size=8)))))
    )


def changed(*changes):
    data = document()
    for change in changes:
        change(data)
    return json.dumps(data)


# What cannot be read

PLACE = ("cases", 0, "measurement", "latency", "mean")
FIELD = "$.cases[0].measurement.latency.mean"


def token(text, *place):
    """A file with this text in the place of a value."""
    return changed(put(*(place or PLACE), "@@")).replace('"@@"', text)


WHOLE = json.dumps(document())
UNREADABLE = {
    "truncated": WHOLE[: WHOLE.index(", ", len(WHOLE) // 2)],
    "NaN": token("NaN"),
    "Infinity": token("Infinity"),
    "-Infinity": token("-Infinity"),
    "a number beyond all": token("1e999"),
    "an integer beyond all": token("1" + "0" * 400),
    "null": token("null"),
    "a text for a number": token('"1"'),
    "an array for a number": token("[1]"),
    "a fraction of a batch": token("1.5", "cases", 0, "case", "batch_size"),
    "a count as a power of ten": token("1e30", "cases", 0, "case", "batch_size"),
    "cores beyond all": token("1" + "0" * 40, "cases", 0, "hardware", "cores"),
    "deep": token("[" * 100_000 + "]" * 100_000),
    "half of a character": token(r'"\ud800"', "created"),
    "newer": changed(put("schema_version", SCHEMA_VERSION + 1)),
    "a version beyond all": '{"schema_version": 1' + "0" * 300 + "}",
    "a version far below zero": '{"schema_version": -1' + "0" * 300 + "}",
    "newer in a merged file": json.dumps({"schema_version": SCHEMA_VERSION + 1, "sessions": [document()]}),
    "no field of ours": changed(put("cases", 0, "colour", 1)),
    "sessions that are none": json.dumps({"schema_version": SCHEMA_VERSION, "sessions": None}),
    "a session that is none": json.dumps({"schema_version": SCHEMA_VERSION, "sessions": [1]}),
    "both kinds at once": changed(put("sessions", [])),
    "a baseline": f'{{"schema_version": {SCHEMA_VERSION}, "hardware": {{"cpu_model": "x", "cores": 4}}}}',
    "a session of version 0": json.dumps(
        {"schema_version": SCHEMA_VERSION, "sessions": [document(), {**document(), "schema_version": 0}]}
    ),
    "a newer session": json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "sessions": [document(), {**document(), "schema_version": SCHEMA_VERSION + 1}],
        }
    ),
}


def test_what_cannot_be_read_is_named_by_file_and_field(answer_of, snapshot):
    errors = {}
    for name, text in UNREADABLE.items():
        found = set()
        for command in READERS:
            with naming(name, command):
                done = answer_of(command, text)
                assert done.code == 4
                assert done.err.count("\n") == 1
                start = f"Error: {Path('results.json').absolute()}: "
                assert done.err.startswith(start)
                found.add(re.sub(r"byte \d+", "byte N", done.err.removeprefix(start).strip()))
        (errors[name],) = found
    assert errors == snapshot


def test_a_field_that_stands_twice_counts_once(answer_of):
    version = f'"schema_version": {SCHEMA_VERSION}'
    text = WHOLE.replace(version, f"{version}, {version}")
    assert text != WHOLE
    assert answer_of("merge", text).written == answer_of("merge", WHOLE).written


# What can be read, and cannot be

MEASUREMENT = ("cases", 0, "measurement")
LATENCY = (*MEASUREMENT, "latency")
VERDICT = ("gate", "verdicts", 0)
LARGEST, SMALLEST = 1.7976931348623157e308, 5e-324


def percentiles(*values):
    """Other percentiles of both cases."""
    return [put("cases", index, "measurement", "latency", "percentiles", list(values)) for index in (0, 1)]


def counted(p50=0.02, **totals):
    """Counters and peaks, from which a roofline is drawn."""
    known = {"flops": 10**9, "bytes_read": 10**6, "bytes_written": 10**6}
    return [
        put(*MEASUREMENT, "counters", {"totals": {**known, **totals}, "weights": {"float32": 4}}),
        put("cases", 0, "peaks", {"flops": {"float32": 1e11}, "bandwidth": 1e10}),
        put(*LATENCY, "p50", {"value": p50}),
    ]


def compared(metric="p50", evidence="stored", **fields):
    """A comparison that fails the first case."""
    row = {"metric": metric, "verdict": "regressed", "evidence": evidence, **fields}
    return [
        put(*VERDICT, "comparisons", [row]),
        put(*VERDICT, "verdict", "regressed"),
        put(*VERDICT, "failed", True),
    ]


def limited(metric="p95_ms", limit=1.0, **fields):
    """A budget that fails the first case."""
    check = {"budget": {"metric": metric, "limit": limit}, "verdict": "over-budget", **fields}
    return [
        put(*VERDICT, "budgets", [check]),
        put(*VERDICT, "verdict", "over-budget"),
        put(*VERDICT, "failed", True),
    ]


def priced(usd=1.0, utilisation=0.5, **fields):
    """A case with a price, and a budget on what it costs."""
    price = {"usd_per_hour": usd, "utilisation": utilisation, "source": "a table"}
    return [
        put("cases", 0, "price", price),
        *(put("cases", 0, name, value) for name, value in fields.items()),
        *limited("usd_per_month"),
    ]


def runs(workers, seconds=0.03):
    return {
        "workers": workers,
        "throughput": 1.0,
        "calls": 9,
        "mean": seconds,
        "percentiles": [seconds] * 101,
    }


def advice(**fields):
    """Advice that the file holds already, with other fields."""
    built = msgspec.to_builtins(given(answer(sweeps=(SWEEP,), **fields)))
    return [put("advice", built)]


def figures(value, count):
    """A plan, and a cost at each demand, of this value."""
    load = msgspec.structs.replace(plan().load, p95=value, utilisation=value, offered=value, missed=value)
    absurd = plan(
        load=load, max_batch=count, max_wait=value, instances=count, usd_per_month=value, usd_per_million=value,
        usd_per_month_with_spare=value, usd_per_hour=value, cold_start=value, weights_bytes=count,
        streams_per_instance=count,
    )  # fmt: skip
    costs = tuple(CostPoint(rate=value, usd_per_month=(value, None)) for _ in range(2))
    return advice(
        plans=(absurd,), considered=(absurd, absurd), costs=costs, limit=value, enough=value, scale_up=value
    )


ABSURD = {
    "advice of nothing": figures(0.0, 0),
    "advice below zero": figures(-1.0, -1),
    "advice beyond all": figures(LARGEST, 2**63 - 1),
    "advice of next to nothing": figures(SMALLEST, 1),
    "advice without a demand that can be drawn": advice(demand=Demand(rate=SMALLEST * 2**60)),
    "advice without a deployment": [put("advice", msgspec.to_builtins(given(unmet())))],
    "no case": [put("cases", []), put("gate", "verdicts", [])],
    "no verdict": [put("gate", "verdicts", [])],
    "verdicts alone": [put("cases", [])],
    "verdict of another case": [put(*VERDICT, "case", "test", "gone.py::test_gone")],
    "the same case twice": [lambda data: data["cases"].append(data["cases"][0])],
    "measured without figures": [lambda data: data["cases"][0].pop("measurement")],
    "measured nowhere": [lambda data: data["cases"][0].pop("hardware")],
    "skipped with figures": [put("cases", 0, "outcome", "skipped")],
    "batch of 0": [put("cases", 0, "case", "batch_size", 0)],
    "batch of -1": [put("cases", 0, "case", "batch_size", -1)],
    "batch beyond all": [put("cases", 0, "case", "batch_size", 2**62)],
    "threads of -1": [put("cases", 0, "case", "threads", -1)],
    "negative times": [put(*LATENCY, "p50", {"value": -1.0, "low": -2.0}), put(*LATENCY, "mean", -1.0), *percentiles(*[-1.0] * 101)],
    "negative first call": [put(*MEASUREMENT, "cold_start", -1.0)],
    "first call beyond all": [put(*MEASUREMENT, "cold_start", LARGEST)],
    "no throughput": [put(*MEASUREMENT, "throughput", 0.0)],
    "negative zero": [put(*MEASUREMENT, "throughput", -0.0), put(*LATENCY, "p50", {"value": -0.0})],
    "throughput beyond all": [put(*MEASUREMENT, "throughput", 1e308)],
    "throughput of next to nothing": [put(*MEASUREMENT, "throughput", SMALLEST)],
    "no calls": [put(*LATENCY, "count", 0)],
    "calls below zero": [put(*LATENCY, "count", -(2**63))],
    "descending percentiles": percentiles(*[0.03] * 100, 0.02),
    "too few percentiles": percentiles(*[0.02] * 100),
    "no percentiles": percentiles(),
    "one percentile": percentiles(0.02),
    "percentiles of next to nothing": percentiles(*[SMALLEST] * 101),
    "percentiles beyond all": percentiles(*[LARGEST] * 101),
    "percentiles from nothing to beyond all": percentiles(*[SMALLEST] * 50, *[LARGEST] * 51),
    "mean outside of the percentiles": [put("cases", index, "measurement", "latency", "mean", 9.0) for index in (0, 1)],
    "copies beyond all": [put(*MEASUREMENT, "host_to_host", 1e308)],
    "negative copies": [put(*MEASUREMENT, "host_to_host", -1.0)],
    "a host that issues for ever": [put(*MEASUREMENT, "enqueue", 1e308), put(*MEASUREMENT, "device_time", SMALLEST), put(*LATENCY, "p50", {"value": SMALLEST})],
    "crews of nobody": [put(*MEASUREMENT, "concurrent_runs", [runs(workers) for workers in (-1, 0, 1)])],
    "a crew beyond all": [put(*MEASUREMENT, "concurrent_runs", [runs(2**62)])],
    "a crew without times": [put(*MEASUREMENT, "concurrent_runs", [{**runs(2), "percentiles": []}])],
    "a crew of impossible times": [put(*MEASUREMENT, "concurrent_runs", [runs(2, SMALLEST), runs(3, 1e308)])],
    "negative work": counted(flops=-5),
    "work on nothing": counted(bytes_read=5, bytes_written=-5),
    "work on less than nothing": counted(bytes_read=-5, bytes_written=-5),
    "work beyond all": counted(SMALLEST, flops=2**63 - 1, operators=2**63 - 1),
    "peaks beyond all": [*counted(), put("cases", 0, "peaks", {"flops": {"float32": 1e308}, "bandwidth": 1e-308})],
    "no bandwidth": [*counted(), put("cases", 0, "peaks", "bandwidth", 0.0)],
    "negative memory": [put(*MEASUREMENT, "memory", {"weights": -1, "activations": -1, "host_peak": -1})],
    "energy of no calls": [put(*MEASUREMENT, "energy", {"joules": -1.0, "source": "rapl", "scope": "package", "seconds": 0.0, "calls": 0, "batch_size": 0})],
    "energy in no time": [put(*MEASUREMENT, "energy", {"joules": 1.0, "source": "nvml", "scope": "board", "seconds": 0.0, "calls": 5, "idle_watts": 10.0})],
    "energy beyond all": [put(*MEASUREMENT, "energy", {"joules": 1e308, "source": "estimate", "scope": "vcpus", "seconds": 1.0, "calls": 1, "idle_watts": 1e308})],
    "a change beyond all": compared(effect=1e308, low=1e-308, high=1e308, tolerance=1e308, baseline=1e308, candidate=1e308, smallest_detectable=1e308),
    "a change below all": compared(effect=-1e308, low=-1e308, high=-1e308),
    "times below zero compared": compared(effect=-2.0, baseline=-1.0, candidate=-1.0),
    "no time compared": compared(effect=0.0, baseline=0.0, candidate=0.0, sessions=-5),
    "a metric that nobody knows": compared("nonsense", "nonsense", effect=1.0, baseline=1.0, candidate=2.0),
    "a counter that nobody knows": compared("nonsense", "exact", effect=1.0, baseline=1.0, candidate=2.0),
    "a paired time without figures": compared(evidence="paired"),
    "a limit beyond all": limited(limit=1e308, value={"value": 1e308, "low": -1e308, "high": 1e308}),
    "a limit below zero": limited(limit=-1.0, value={"value": -1.0}),
    "a budget that nobody knows": limited("nonsense", value={"value": 1.0}),
    "memory beyond all": limited("peak_memory_mb", 1e308, value={"value": 1e308}),
    "no utilisation": priced(utilisation=0.0, demand=1.0),
    "a utilisation beyond all": priced(utilisation=1e308, demand=1.0),
    "a price below zero": priced(-1.0, demand=1.0),
    "a price beyond all": priced(1e308, demand=1e308),
    "a demand below zero": priced(demand=-1.0),
    "a demand of next to nothing": priced(demand=SMALLEST),
    "no cores": [put("cases", 0, "hardware", "cores", 0)],
    "cores below zero": [put("cases", 0, "hardware", "cores", -(2**63))],
    "an accelerator of which there is none": [put("cases", 0, "hardware", {"cpu_model": "x", "cores": 4, "accelerator": "NVIDIA L4", "accelerator_count": 0})],
    "accelerators without a name": [put("cases", 0, "hardware", {"cpu_model": "x", "cores": 4, "accelerator_count": -3})],
    "a card where none is": [put("cases", 0, "case", "device", "cuda")],
    "a machine without a name": [put("cases", 0, "hardware", {"cpu_model": "", "cores": 4, "accelerator": "", "driver": "", "isa": [""]})],
    "nothing has a name": [put("cases", 0, "case", {"test": "", "device": ""}), put("cases", 0, "nodeid", "")],
    "no day": [put("created", ""), put("tool_version", "")],
    "another day": [put("created", "yesterday")],
    "memory of the machine below zero": [put("environment", "memory_bytes", -1)],
    "a paired run for ever": [put("against", {"revision": "main", "launches": -1, "seconds": 1e308})],
    "a paired run before it began": [put("against", {"seconds": -1e308})],
}  # fmt: skip


@every_command
def test_what_cannot_be_is_refused_or_answered_with_finite_figures(answer_of, command):
    for name, changes in ABSURD.items():
        with naming(name):
            done = answer_of(command, changed(*changes))
            assert not NO_NUMBER.search(re.sub(r"(?s)<style>.*?</style>", "", done.everything))
            if done.written is not None and command in ("merge", "json"):
                assert json.loads(done.written)
            if done.written is not None and command == "merge":
                results_json.parse_all(done.written, "output")
                assert answer_of("merge", done.written).written == done.written


def test_where_no_times_can_be_used_there_is_no_advice(answer_of, snapshot):
    errors = set()
    names = (
        "no case",
        "verdicts alone",
        "descending percentiles",
        "too few percentiles",
        "no percentiles",
        "one percentile",
        "mean outside of the percentiles",
        "a paired run for ever",
    )
    texts = {name: changed(*ABSURD[name]) for name in names} | {
        "a case that failed": results_json.render_results(
            session(msgspec.structs.replace(measured(0.02), outcome=Outcome.FAILED))
        ),
        "wrong outputs": results_json.render_results(session(measured(0.02), kind=Verdict.MISMATCH)),
        "a paired run": results_json.render_results(
            msgspec.structs.replace(session(measured(0.02)), against=Against(revision="main"))
        ),
    }
    for name, text in texts.items():
        for command in ("advise", "json", "backlog"):
            with naming(name, command):
                done = answer_of(command, text)
                assert done.code == 4
                errors.add(done.err.strip())
    assert sorted(errors) == snapshot


def test_a_batch_whose_times_cannot_be_used_leaves_the_others(answer_of):
    kept = put("cases", 1, document()["cases"][1])
    for name in ("batch of 0", "batch of -1", "negative times", "copies beyond all"):
        answer = json.loads(answer_of("json", changed(*ABSURD[name], kept)).written)["answers"][0]
        assert [sweep["batch_sizes"] for sweep in answer["sweeps"]] == [[8]], name


def test_figures_that_advice_does_not_need_change_no_plan(answer_of):
    def plan(text):
        return json.loads(answer_of("json", text).written)["answers"][0]["plans"][0] | {"cold_start": 0}

    usual = plan(WHOLE)
    for name in ("no throughput", "a crew without times", "crews of nobody", "negative first call"):
        assert plan(changed(*ABSURD[name])) == usual, name


# Names

NAMES = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'",
    "markdown": "`a` **b** | @all [c](http://d) <!-- \n# e",
    "escape": "\x1b[2J\x1b]8;;http://x\x07red\x1b[0m",
    "C1 controls": "\x9b31m\x90q\x9c\x7f\U000e0041",
    "direction": "\u202eesrever\u2066\u200f\u200b",
    "path": "../../../../x",
    "absolute": "/x/y",
    "zero": "a\x00b",
    "lines": "one\ntwo\r\n\u2028three",
    "empty": "",
    "format": "{0} {x!r} %s %(y)s {{ 7*7 }} {% raw %}",
}


def named(name):
    """A file in which every text that a test, a file or a system may set is this name."""
    note = {"code": name, "text": name, "hint": name}
    case = Case(test=f"tests/{name}.py::{name}", params=name, device=f"cpu{name}", runtime=name, dtype=name)
    counters = {
        "totals": {name: 5, "flops": 10**9, "operators": 10, "bytes_read": 10**6, "bytes_written": 10**6},
        "architecture": name,
        "weights": {name: 4},
        "operators": [{"operator": name, "place": name, "calls": 1}],
    }
    comparison = {"verdict": "regressed", "baseline": 1.0, "candidate": 2.0, "effect": 1.0, "note": note}
    cause = {"operator": name, "place": name, "change": 4, "share": 1.0}
    data = document(measured(0.02))
    result, verdict = data["cases"][0], data["gate"]["verdicts"][0]
    case = msgspec.to_builtins(case)
    result |= {"case": case, "nodeid": name, "unit": name, "reason": note}
    result["hardware"] = {"cpu_model": name, "cores": 4, "isa": [name], "driver": name}
    result["measurement"] |= {"notes": [note], "counters": counters, "reference_work": {name: 0.01}}
    result["peaks"] = {"flops": {name: 1e11}, "bandwidth": 1e10}
    result["price"] = {"usd_per_hour": 1.0, "utilisation": 0.5, "source": name, "notes": [note]}
    verdict |= {"case": case, "nodeid": name, "notes": [note], "verdict": "regressed", "failed": True}
    verdict["comparisons"] = [
        {**comparison, "metric": "p50", "evidence": "stored"},
        {**comparison, "metric": name, "evidence": name},
        {**comparison, "metric": name, "evidence": "exact", "causes": [cause]},
    ]
    verdict["budgets"] = [{"budget": {"metric": name, "limit": 1.0}, "verdict": "over-budget", "note": note}]
    data |= {"created": name, "tool_version": name}
    evil = answer(
        model=name, deployments=(name,), plans=(plan(instance=name, price=name, deployment=name, device=name),),
        costs=(), sweeps=(msgspec.structs.replace(SWEEP, deployment=name),),
        crossings=(Crossing(rate=1.0, below=name, above=name),),
        sensitivities=(Sensitivity(assumption=name, winner=name),),
        actions=(Note(code=name, text=name, hint=name),),
    )  # fmt: skip
    data["advice"] = msgspec.to_builtins(given(evil, unanswered={name: evil.actions}))
    data["environment"] = {"os": name, "python": name, "packages": {name: name}, "wait_policy": name}
    data["gate"] |= {
        "passed": False,
        "headline": f"{name}: {name}",
        "reasons": [name],
        "new": [case],
        "missing": [case],
        "renamed": [[case, case]],
        "deselected": [note],
    }
    return json.dumps(data)


def invisible(text):
    """Characters that a terminal would obey or a reader could not see, lines apart."""
    return sorted({character for character in text if not character.isprintable() and character != "\n"})


@every_command
def test_names_are_shown_and_never_obeyed(answer_of, command):
    for name, hostile in NAMES.items():
        with naming(name):
            done = answer_of(command, named(hostile))
            assert done.code == (1 if command == "gate" else 0)
            assert not invisible(done.out + done.err)
            if done.written is not None:
                assert not invisible(done.written)
            if command in ("report", "html", "markdown"):
                prose = re.sub(
                    r"(?s)(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", done.written
                )  # HTML in code is none
                assert not re.search(r"(?<!\\)<(?:script|img)", prose)
            if command in ("report", "html"):
                assert ("{{ 7*7 }} {% raw %}" in done.written) == (name == "format")


@every_command
def test_a_name_of_a_million_characters_is_survived(answer_of, command):
    name = "x" * 10**6
    case = {"test": f"t.py::{name}", "params": name, "device": "cpu"}
    places = [("cases", 0), VERDICT]
    text = changed(
        *(put(*place, "case", case) for place in places), *(put(*place, "nodeid", name) for place in places)
    )
    done = answer_of(command, text)
    assert done.code == 0
    assert len(done.everything) < 100 * len(name)


def test_what_is_said_of_a_file_holds_no_word_of_the_file(answer_of):
    line = "\n::error::it is me\x1b[2J ` - at `$.it is me`"
    environment = ("environment", {"packages": {line: 2}})
    for change in (
        put("cases", 0, "outcome", line),
        put("cases", 0, line, 1),
        put(line, 1),
        put(*environment),
    ):
        done = answer_of("merge", changed(change))
        assert done.code == 4
        assert "it is me" not in done.err
        assert not invisible(done.err)
        assert done.err.count("\n") == 1


def test_what_is_said_of_two_files_holds_no_line_of_them(tmp_path, capsys):
    hardware = Hardware(cpu_model="x", cores=4)
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, p50 in zip(paths, (0.02, 0.03), strict=True):
        path.write_text(
            results_json.render_results(
                session(measured(p50, name="test_a\n::error::it is me\x1b[2J", hardware=hardware))
            )
        )
    with pytest.raises(SystemExit) as done:
        main.main(["merge", *map(str, paths)])
    out, err = capsys.readouterr()
    assert (done.value.code, out, err.count("\n")) == (4, "", 1)
    assert not invisible(err)


@every_command
def test_nothing_printed_has_a_command_of_the_older_form(tmp_path, monkeypatch, capsys, command):
    # A runner obeys it anywhere in a line.
    monkeypatch.chdir(tmp_path)
    Path("results.json").write_text(named("x##[error]y##vso[task.x]"))
    with pytest.raises(SystemExit):
        main.main(
            [*COMMANDS[command], "results.json", *(["-o", "/dev/stdout"] if command == "report" else [])]
        )
    out, err = capsys.readouterr()
    assert out or command == "report"
    assert not re.search(r"##\w*\[", out + err)


def test_no_line_is_a_command_to_a_ci_service(answer_of):
    # GitHub obeys lines that begin with two colons, blanks before them left out.
    evil = "::stop-commands::x"
    case = {"test": evil, "device": "cpu"}
    text = changed(
        *(put(*place, "case", case) for place in (("cases", 0), VERDICT)),
        *(put(*place, "nodeid", evil) for place in (("cases", 0), VERDICT)),
        put("gate", "headline", evil),
        put("gate", "reasons", [evil]),
    )
    for command in ("gate", "advise", "backlog"):
        done = answer_of(command, text)
        lines = (done.out + (done.written or "")).splitlines()
        assert lines, command
        assert not [line for line in lines if line.strip().startswith("::")], command


# Files


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "gate"])
def test_an_output_in_a_missing_folder_is_refused_before_any_work(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    Path("results.json").write_text("not read")
    with pytest.raises(SystemExit) as done:
        main.main([*COMMANDS[command], "results.json", "-o", "no/such/output"])
    out, err = capsys.readouterr()
    assert (done.value.code, out) == (4, "")
    assert "no/such" in err
    assert not Path("no").exists()


def test_a_dash_is_the_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("results.json").write_text(WHOLE)
    for command in ("merge", "report", "advise"):
        with pytest.raises(SystemExit):
            main.main([*COMMANDS[command], "results.json", "-o", "-"])
        out, err = capsys.readouterr()
        assert (len(out) > 100, err) == (True, ""), command
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_results_are_not_overwritten_with_what_is_made_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results.json"
    path.write_text(WHOLE)
    for command in ("report", "advise"):
        with pytest.raises(SystemExit) as done:
            main.main([*COMMANDS[command], str(path), "-o", str(path)])
        assert done.value.code == 4, command
        assert "results.json" in capsys.readouterr().err, command
        assert path.read_text() == WHOLE, command


def test_a_file_may_be_merged_into_itself(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(WHOLE)
    for _ in range(2):
        with pytest.raises(SystemExit) as done:
            main.main(["merge", str(path), "-o", str(path)])
        assert (done.value.code or 0, capsys.readouterr().err) == (0, f"wrote {path}\n")
    assert len(results_json.parse_all(path.read_bytes(), "results.json")) == 1


def test_the_default_output_of_a_report_survives_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("results.json").write_text(WHOLE[:-5])
    Path("report.html").write_text("before")
    with pytest.raises(SystemExit) as done:
        main.main(["report", "results.json"])
    assert done.value.code == 4
    assert "results.json" in capsys.readouterr().err
    assert Path("report.html").read_text() == "before"
