"""The main road: mark, run, measure, record, compare, fail, report."""

import json
import xml.etree.ElementTree as ET

import pytest
from inner_results import failures
from inputs import parsed

from pytest_infergate.config.options import OPTIONS
from pytest_infergate.runner import run

# Cases


def test_plain_pytest_runs_once_on_the_cpu_and_measures_nothing(project):
    project.pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.inference(devices=['fake', 'cpu'], batch_sizes=[8, 1])
        def test_model(infer, model, device):
            result = infer(model)
            assert not result.measured
            assert (infer.device, infer.batch_size, result.output, device.kernels) == ('cpu', 8, 'output', 1)

        @pytest.mark.parametrize("figure", ["latency", "counters", "cost", "energy"])
        def test_figure(infer, model, figure):
            getattr(infer(model), figure)
        """
    )
    result = project.run("-v")
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines(["*test_model?cpu-b8? PASSED*"])
    result.stdout.no_fnmatch_line("*infergate:*")
    assert not (project.path / ".infergate").exists()
    for name, text in failures(result).items():
        assert "NotMeasuredError: this run did not measure" in text, name


def test_each_device_and_batch_size_is_an_item(project):
    project.pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.inference(batch_sizes=[1, 8])
        def test_model(infer, model):
            assert infer(model).measured

        def test_bare(infer, model):
            assert infer(model).measured

        @pytest.mark.parametrize("size", [4, 5], ids=["cpu-b8", "large"])
        @pytest.mark.inference(batch_sizes=[8], devices=["fake"])
        def test_sizes(infer, model, size):
            infer(model)
        """
    )
    result = project.run("--infer-devices=fake,accel,ghost", "-v", "-rs", "--infer-json=r.json")
    result.assert_outcomes(passed=8, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "infergate: 8 cases on fake, accel, about 24 s on an idle machine and * on a busy one",
            "*test_model?fake-b1? PASSED*",
            "*test_model?fake-b8? PASSED*",
            "*test_model?accel-b1? PASSED*",
            "*test_model?accel-b8? PASSED*",
            "*test_model?ghost-b1? SKIPPED*no ghost device found*",
            "*test_bare?fake? PASSED*",
            "nothing was decided: 11 cases, 3 not-measured, 8 without a baseline",
        ]
    )
    cases = {one["nodeid"]: one["case"] for one in json.loads((project.path / "r.json").read_text())["cases"]}
    assert cases["test_it.py::test_sizes[fake-b8-cpu-b8]"] == {
        "test": "test_it.py::test_sizes",
        "params": "cpu-b8",
        "device": "fake",
        "batch_size": 8,
    }
    assert cases["test_it.py::test_sizes[fake-b8-large]"]["params"] == "large"


def test_figures_reach_the_test(project):
    project.takes(0.002)
    project.pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.inference(devices=["fake"], batch_sizes=[4])
        def test_call(infer, model):
            r = infer(model)
            assert r.latency.p50 == r.latency.samples[0] == 0.002
            assert r.throughput == 4 / 0.002
            assert r.memory.activations == 1_000_000
            assert r.memory.peak is None  # the weights of a plain callable without a module are unknown
            assert r.cold_start == 0.002
            assert r.stream is None
            assert r.cost is None
            assert 'p50=0.002' in repr(r)

        @pytest.mark.inference(devices=["accel"])
        def test_accelerator(infer, model):
            m = infer(model).measurement
            assert (m.latency.p50.value, m.enqueue, m.device_time) == (0.00201, 1e-5, 0.00201)

        @pytest.mark.inference(devices=["fake"], budget={'p99_ms': 40})
        def test_needs_more_calls(infer, model):
            assert len(infer(model).latency.samples) >= 459

        @pytest.mark.inference(devices=["fake"], budget={"ttft_ms": 100, "items_per_s": 10})
        def test_tokens(infer, device):
            def generate():
                device.spend(0.02)
                yield "a"
                for token in "bcd":
                    device.spend(0.01)
                    yield token
            result = infer(generate)
            assert result.output == list("abcd")
            assert result.stream.items == 4
            assert result.stream.first_item.p50.value == pytest.approx(0.02)
            assert result.stream.between_items.p50.value == pytest.approx(0.01)
            assert result.latency.p50 == pytest.approx(0.05)
        """
    )
    result = project.run("--infer-devices=fake,accel")
    result.assert_outcomes(passed=4)


# Against a baseline


def test_an_unchanged_model_passes_against_its_baseline(project):
    project.test()
    for _ in range(4):
        project.record()
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*equivalent*", "gate passed: 1 of 1 case decided"])
    assert result.ret == 0


@pytest.fixture
def slower(project):
    """One session on record, and models that have become five times slower since."""
    project.several({"plain": "", "warn": "gate='warn'", "off": "gate=False", "tolerant": "tolerance='900%'"})
    project.record()
    project.takes(0.050)
    return project


def test_a_slowdown_fails_from_a_baseline_of_one_session(slower, snapshot):
    result = slower.measure("--junitxml=junit.xml", "--infer-json=verdicts.json")
    assert result.ret == 1
    assert failures(result) == {"test_plain[fake]": snapshot}
    result.stdout.fnmatch_lines(
        ["gate FAILED: *, 2 regressed (not failing the run), 1 regressed", "*1 case regressed"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_infergate/*.py:*")
    found = {case.get("name"): case for case in ET.parse(slower.path / "junit.xml").iter("testcase")}
    assert [name for name, case in found.items() if case.find("failure") is not None] == ["test_plain[fake]"]
    properties = {one.get("name"): one.get("value") for one in found["test_plain[fake]"].iter("property")}
    assert properties["infergate.verdict"] == "regressed"
    assert properties["infergate.device"] == "fake"


@pytest.mark.parametrize(
    ("option", "failing"),
    [
        ("--infer-gate=warn", []),
        ("--infer-gate=off", []),
        ("--infer-gate=fail", ["off", "plain", "warn"]),
        ("--infer-tolerance=900%", []),
        ("--infer-tolerance=p50=0.1", ["plain", "tolerant"]),
    ],
)
def test_gate_and_tolerance_of_the_command_line_win_over_the_marker(slower, option, failing):
    assert slower.failing(option) == failing


def test_a_slower_machine_is_not_a_slower_model(project):
    project.test()
    project.record()
    project.change("DEVICE.slowness = 5")
    project.takes(0.050)
    result = project.measure()
    result.assert_outcomes(passed=1)
    assert "regressed" not in result.stdout.str()


def test_more_memory_is_a_regression(project):
    project.test()
    project.record()
    project.change("DEVICE.activations = 9_000_000")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memory*9.00 MB*1.00 MB*"])


def test_a_disturbed_case_is_never_red_where_others_overran_it(project):
    project.test("budget={'p50_ms': 100}")
    project.record()
    conftest = (project.path / "conftest.py").read_text()
    project.change("DEVICE.others = 0.2")
    project.takes(0.025)
    decided = project.verdicts()["model"]
    assert (decided.verdict, decided.failed) == ("suspected", False)
    assert "cpu-contention" in decided.codes
    project.takes(0.060)
    assert project.failing() == ["model"]
    project.takes(0.2)
    project.pytester.makeconftest(conftest)
    project.change("DEVICE.others = 0.5")
    decided = project.verdicts()["model"]
    assert (decided.verdict, decided.failed) == ("suspected", False)
    project.takes(0.9)  # what contention cannot explain
    assert project.failing() == ["model"]


def test_hardware_classes_have_a_file_each_and_do_not_compare(project):
    project.test()
    project.record()
    conftest = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(conftest.replace('FakeDevice("fake")', 'FakeDevice("fake", cores=8)'))
    result = project.record()
    result.stdout.fnmatch_lines(["nothing was decided: 1 case, 1 incomparable: *"])
    assert len(list((project.path / ".infergate/baselines").glob("*.json"))) == 2


def test_new_missing_and_renamed_cases_are_listed(project):
    project.test(name="test_old")
    project.test(name="test_gone", file="test_other.py")
    project.record()
    (project.path / "test_other.py").write_text("")
    project.test(name="test_new")
    project.test(name="test_brand", file="test_third.py", arguments="batch_sizes=[3]")
    result = project.measure("--infer-json=r.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        ["*test_brand*", "*test_it.py::test_old*test_it.py::test_new*", "*test_other.py::test_gone*"]
    )
    gate = json.loads((project.path / "r.json").read_text())["gate"]
    assert {case["test"] for case in gate["missing"]} == {"test_it.py::test_old", "test_other.py::test_gone"}
    assert project.measure("--infer-strict").ret == 1


def test_a_run_of_one_file_misses_nothing_elsewhere(project):
    project.test()
    project.test(file="test_other.py")
    project.record()
    assert "missing" not in project.measure("test_it.py").stdout.str()
    assert "missing" not in project.measure("-k", "test_it").stdout.str()


def test_a_run_of_one_case_misses_no_other(project):
    """Neither when it is strict nor when it records, which would take the other case out of the counters."""
    project.test("batch_sizes=[1, 2]")
    project.test(file="test_other.py")
    project.record()
    one = "test_it.py::test_model[fake-b1]"
    assert "missing" not in project.measure("--infer-strict", one).stdout.str()
    before = (project.path / ".infergate/counters/test_it.py.txt").read_text()
    project.record(one)
    assert (project.path / ".infergate/counters/test_it.py.txt").read_text() == before
    (project.path / "test_other.py").write_text("")
    output = project.measure("--infer-strict", one, "test_other.py").stdout
    output.fnmatch_lines(["*1 case of the baseline missing from this run (strict)"])


# Recorded


def test_save_says_what_it_recorded(project):
    project.test("batch_sizes=[1, 2]", "infer(model); assert infer.batch_size == 1")
    result = project.measure("--infer-save")
    result.stdout.fnmatch_lines(
        ["recorded 1 case into *baselines", "not recorded, failed: 1 case (test_it.py::test_model?fake-b2?)"]
    )


def test_save_that_recorded_nothing_says_why_and_leaves_no_folder(project):
    project.several({"slow": "budget={'p50_ms': 1}", "absent": "devices=['ghost']"})
    result = project.run("--infer-devices=fake,ghost", "--infer-save")
    assert result.ret == 1
    result.stdout.fnmatch_lines_random(
        [
            "not recorded, over-budget: 1 case (test_it.py::test_slow?fake?)",
            "not recorded, skipped: 2 cases (test_it.py::test_absent?ghost?, test_it.py::test_slow?ghost?)",
        ]
    )
    result.stdout.no_fnmatch_line("recorded *")
    assert not (project.path / ".infergate").exists()


def test_save_never_fails_on_a_regression_and_still_on_a_budget(project):
    def sessions():
        file = next((project.path / ".infergate/baselines").glob("*.json"))
        return json.loads(file.read_text())["cases"][0]["sessions"]

    project.test("budget={'p50_ms': 100}")
    project.record()
    project.takes(0.050)
    result = project.record()
    result.stdout.fnmatch_lines(["*regressed*"])
    assert sessions()[1]["p50"] == pytest.approx(0.05)
    project.takes(1)
    project.measure("--infer-save").assert_outcomes(failed=1)
    assert len(sessions()) == 2


# Budgets


def test_budgets_fail_by_name(project, snapshot):
    (project.path / "pyproject.toml").write_text("[tool.infergate.budgets]\n'*::test_tab*' = {p95_ms = 4}\n")
    project.several(
        {
            "broken": "budget={'p95_ms': 4}",
            "kept": "budget={'p95_ms': 40, 'throughput_per_s': 10}",
            "table": "",
            "unpriced": "budget={'usd_per_million': 3.0}",
        }
    )
    with (project.path / "test_it.py").open("a") as file:
        file.write(
            "\n\nclass TestJoined:\n"
            "    pytestmark = pytest.mark.inference(budget={'p50_ms': 1, 'p95_ms': 500})\n\n"
            "    @pytest.mark.inference(budget={'throughput_per_s': 10})\n"
            "    def test_model(self, infer, model):\n        infer(model)\n"
        )
    result = project.measure("--infer-json=r.json")
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines(
        [
            "gate FAILED: 4 of 5 cases decided, 4 over-budget, 5 without a baseline",
            "*5 cases have no baseline yet*",
        ]
    )
    decided = json.loads((project.path / "r.json").read_text())["gate"]["verdicts"]
    assert {
        one["nodeid"].removeprefix("test_it.py::"): {
            each["budget"]["metric"]: each["verdict"] or "kept" for each in one["budgets"]
        }
        for one in decided
    } == {
        "TestJoined::test_model[fake]": {
            "p50_ms": "over-budget",
            "p95_ms": "kept",
            "throughput_per_s": "kept",
        },
        "test_broken[fake]": {"p95_ms": "over-budget"},
        "test_kept[fake]": {"p95_ms": "kept", "throughput_per_s": "kept"},
        "test_table[fake]": {"p95_ms": "over-budget"},
        "test_unpriced[fake]": {"usd_per_million": "over-budget"},
    }
    assert "\n\n".join(failures(result).values()) == snapshot


# Options of a run


def test_strict_and_a_least_share_fail_what_was_not_decided(project):
    project.test()
    assert project.failing("--infer-strict") == ["model"]
    result = project.measure("--infer-min-decided=80%")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*0 of 1 case decided, --infer-min-decided requires 80 %"])


def test_reports_are_written_and_named(project):
    project.test()
    result = project.measure("--infer-report=report.html", "--infer-json=results.json")
    result.stdout.fnmatch_lines_random(["wrote *report.html", "wrote *results.json"])
    assert "<!doctype html>" in (project.path / "report.html").read_text().lower()
    assert json.loads((project.path / "results.json").read_text())["gate"]["passed"] is True


def test_list_shows_the_cases_and_runs_none(project):
    project.test("batch_sizes=[1, 8]")
    result = project.run("--infer-devices=fake,ghost", "--infer-list")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_model?fake-b1?",
            "test_it.py::test_model?ghost-b1?*skipped: no ghost device found*",
        ]
    )
    result.assert_outcomes()


def test_list_says_why_a_combination_has_no_case(project):
    project.test("dtypes=['float32', 'tf32']")
    result = project.run("--infer-devices=fake", "--infer-list")
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_model?fake-float32?",
            "test_it.py::test_model?fake-tf32?  (no case: TF32 exists on CUDA devices only, and not on fake)",
        ]
    )


def test_disable_wins_over_everything(project):
    project.test(body="assert not infer(model).measured")
    project.measure("--infer-disable", "--infer-strict").assert_outcomes(passed=1)


@pytest.mark.torch
def test_auto_stands_for_what_is_there(project, torch_kept):
    project.test("devices=['fake', 'accel', 'ghost']")
    result = project.run("--infer-devices=auto", "-v")
    result.assert_outcomes(passed=2)


def test_deselected_tests_are_told_with_the_reason(project):
    project.test("devices=['accel']")
    project.test(file="test_other.py")
    result = project.measure()
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*devices: fake requested, the marker allows accel*"])


def test_max_time_bounds_each_case_and_max_total_the_run(project, monkeypatch):
    project.takes(0.5)
    project.test("batch_sizes=[1, 2], max_time='3s'", "r = infer(model); assert sum(r.latency.samples) <= 4")
    project.measure().assert_outcomes(passed=2)
    ticks = iter(range(0, 1000, 50))
    monkeypatch.setattr(run.time, "monotonic", lambda: next(ticks))
    result = project.measure("--infer-max-total=20s", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*--infer-max-total of 20 s was spent before this case*"])


ASKING = {
    "devices": "fake",
    "runtimes": "eager",
    "dtypes": "float32",
    "threads": "1",
    "workers": "2",
    "against": "main",
    "against_python": "python",
    "against_runtime": "eager",
    "require": "fake",
    "save": "yes",
    "counters_only": "yes",
    "report": "r.html",
    "json": "r.json",
    "markdown": "r.md",
}
PASSIVE = {
    "paired_data": "t.json",
    "baseline": "here",
    "history": "here",
    "counters": "here",
    "gate": "warn",
    "save_contended": "yes",
    "strict": "yes",
    "tolerance": "30%",
    "max_time": "1s",
    "max_total": "1min",
    "min_decided": "80%",
    "xdist": "refuse",
    "lock": "off",
    "demand": "50/s",
    "load": "50/s",
    "prices": "no.csv",
    "energy": "yes",
    "list": "yes",
    "disable": "yes",
}
"""Options that say how to measure, and not what."""


def test_any_option_switches_measuring_on_and_some_ini_values_do(tmp_path):
    assert {*ASKING, *PASSIVE} == {option.name for option in OPTIONS}
    measuring = {
        name for name, text in {**ASKING, **PASSIVE}.items() if parsed(tmp_path, ini={name: text}).measuring
    }
    assert measuring == ASKING.keys()
    flags = {"save", "counters_only", "strict", "energy", "list", "disable"}
    alone = {**ASKING, **PASSIVE, **dict.fromkeys(flags, True)}
    del alone["paired_data"], alone["save_contended"]  # of a paired run, and of one that saves
    measuring = {name for name, given in alone.items() if parsed(tmp_path, {name: given}).measuring}
    assert measuring == alone.keys() - {"disable"}


def test_ini_values_that_ask_for_figures_switch_measuring_on_and_others_do_not(project):
    project.test(body="assert infer(model).measured", arguments="devices=['fake', 'cpu']")
    ini = project.path / "pytest.ini"
    ini.write_text("[pytest]\ninfer_devices = fake\ninfer_save = true\n")
    project.run().assert_outcomes(passed=1)
    project.test(body="assert not infer(model).measured")
    given = {"tolerance": "30%", "gate": "warn", "energy": "true", "prices": "no.csv", "demand": "50/s"}
    ini.write_text("[pytest]\n" + "".join(f"infer_{name} = {value}\n" for name, value in given.items()))
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*infergate:*")


def test_random_numbers_are_the_same_in_every_case_and_restored(project):
    project.pytester.makepyfile(
        """
        import random
        import pytest

        seen = []
        random.seed(7)
        outside = random.Random(7).random()

        @pytest.mark.inference(batch_sizes=[1, 2])
        def test_model(infer, model):
            seen.append(random.random())
            infer(model)

        def test_after():
            assert len(seen) == 2 and seen[0] == seen[1]
            assert random.random() == outside
        """
    )
    project.measure().assert_outcomes(passed=3)


def test_fixtures_of_inference_tests_draw_the_same_in_each_mode(project):
    project.pytester.makepyfile(
        """
        import random
        import pytest

        def draw():
            return random.random()

        weights = pytest.fixture(scope="session")(draw)
        other = pytest.fixture(draw)

        @pytest.fixture
        def drawn(weights):
            return weights, random.random()

        @pytest.mark.inference
        def test_model(infer, model, drawn):
            print("DRAWN", *drawn)
            infer(model)

        def test_ordinary(other):
            print("OTHER", other)
        """
    )
    lines = {}
    for in_mode in (project.run, project.run, project.measure):
        for line in in_mode("-s").outlines:
            for word in ("DRAWN", "OTHER"):
                if word in line:
                    lines.setdefault(word, []).append(line[line.index(word) :])
    assert len(lines["DRAWN"]) == 3
    assert len(set(lines["DRAWN"])) == 1
    assert len(set(lines["OTHER"])) == 3
