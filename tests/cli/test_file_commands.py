"""`infergate compare`, `show`, `export` and `import`."""

import json

import msgspec
import pytest
from refusals import refused
from test_commands_on_results import measured, run, session  # noqa: F401 - a fixture

from pytest_infergate.core.domain.outcome import Against
from pytest_infergate.report import results_json


@pytest.fixture
def results(tmp_path):
    """Files of sessions with these medians of one case, a day apart."""

    def results(*medians, name="day", **fields):
        paths = []
        for day, p50 in enumerate(medians, 1):
            made = session(measured(p50), created=f"2026-07-{day:02}T12:00:00Z")
            path = tmp_path / f"{name}{day}.json"
            path.write_text(results_json.render_results(msgspec.structs.replace(made, **fields)))
            paths.append(path)
        return paths

    return results


def test_a_slower_file_fails(run, results):  # noqa: F811
    before, after = results(0.010, 0.10)
    code, out, err = run("compare", before, after)
    assert (code, err) == (1, "")
    assert "regressed" in out
    assert run("compare", after, before)[0] == 0  # faster
    assert run("compare", before, before)[0] == 2  # one session cannot rule out a slowdown of 25 %


def test_more_files_detect_a_smaller_slowdown(run, results):  # noqa: F811
    *before, after = results(*[0.01] * 12, 0.018)
    assert run("compare", before[0], after)[0] == 2
    assert run("compare", *before, after)[0] == 1


def test_undecided_cases_fail_on_request(run, results):  # noqa: F811
    before, after = results(0.010, 0.011)
    assert run("compare", before, after, "--strict")[0] == 1


def test_cases_are_shown_sorted_and_selected(run, tmp_path):  # noqa: F811
    found = [
        measured(p50, name=name) for name, p50 in (("test_a", 0.01), ("test_b[x]", 0.03), ("test_c", 0.02))
    ]
    path = tmp_path / "results.json"
    path.write_text(results_json.render_results(session(*found)))

    def names(*arguments):
        _, out, _ = run("show", path, *arguments)
        return [line.split("::")[1].split()[0] for line in out.splitlines() if "::" in line and "-" in line]

    assert names("--sort", "p50") == ["test_b[x][cpu]", "test_c[cpu]", "test_a[cpu]"]
    assert names("--sort", "throughput") == ["test_b[x][cpu]", "test_c[cpu]", "test_a[cpu]"]
    assert names("--sort", "case") == ["test_a[cpu]", "test_b[x][cpu]", "test_c[cpu]"]
    assert names("-k", "TEST_?[CPU", "--sort", "case") == ["test_a[cpu]", "test_c[cpu]"]
    assert names("-k", "b[x]") == ["test_b[x][cpu]"]
    _, out, _ = run("show", path, "-k", "test_c")
    assert "p99 latency  20.0 ms" in out  # everything that is known of a single case


def test_benchmarks_of_others_become_results(run, tmp_path):  # noqa: F811
    path, imported, again = (tmp_path / name for name in ("benchmark.json", "results.json", "again.json"))
    benchmark = {
        "name": "test_a[10]",
        "fullname": "tests/test_a.py::test_a[10]",
        "stats": {"data": [0.01] * 30},
    }
    cpu = {"brand_raw": "Some CPU", "count": 8}
    path.write_text(
        json.dumps(
            {"benchmarks": [benchmark], "datetime": "2026-01-01T00:00:00+00:00", "machine_info": {"cpu": cpu}}
        )
    )
    assert run("import", path, "-o", imported)[0] == 0
    made = results_json.parse_results(imported.read_bytes(), "results.json")
    (one,) = made.cases
    assert (one.case.test, one.case.params, one.hardware.cpu_model) == (
        "tests/test_a.py::test_a",
        "10",
        "Some CPU",
    )
    assert one.measurement.latency.p50.value == 0.01
    assert one.measurement.throughput is None
    for command in (("show", imported), ("gate", imported), ("report", imported, "-o", again)):
        assert run(*command)[0] in (0, 2)
    assert run("export", imported, "--format", "pytest-benchmark", "-o", again)[0] == 0
    assert json.loads(again.read_text())["benchmarks"][0]["stats"]["median"] == 0.01


def test_what_is_refused(run, results, tmp_path, snapshot):  # noqa: F811
    one, two = results(0.01, 0.02)
    (paired,) = results(0.01, name="paired", against=Against(revision="main"))
    contents = {
        "none": {"benchmarks": [], "datetime": ""},
        "summary": {
            "benchmarks": [{"name": "t", "fullname": "a::t", "stats": {"median": 1}}],
            "datetime": "",
        },
        "negative": {
            "benchmarks": [{"name": "t", "fullname": "a::t", "stats": {"data": [-1.0]}}],
            "datetime": "",
        },
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    asked = {
        "compare with a paired run": ("compare", paired, one),
        "compare one file": ("compare", one),
        "show an unknown column": ("show", one, "--sort", "p51"),
        "show no case": ("show", one, "-k", "bogus"),
        "export in an unknown format": ("export", one, "--format", "xml"),
        "export an unknown metric": ("export", one, "--format", "csv", "--metric", "p51"),
        "export over its input": ("export", one, "--format", "csv", "-o", one),
        "export files that contradict each other": ("export", one, two, "--format", "csv"),
        "import results of infergate": ("import", one, "-o", tmp_path / "x.json"),
        **{f"import {name}": ("import", tmp_path / f"{name}.json", "-o", tmp_path / "x.json") for name in contents},
    }  # fmt: skip
    assert refused(run, asked, folder=tmp_path) == snapshot
    assert not (tmp_path / "x.json").exists()
