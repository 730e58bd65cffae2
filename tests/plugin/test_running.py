"""The main road: mark, run, measure, record, compare, fail, report."""

import json
import xml.etree.ElementTree as ET

import pytest


def test_plain_pytest_runs_once_on_the_cpu_and_measures_nothing(project):
    project.test(
        "devices=['fake', 'cpu'], batch_sizes=[8, 1]",
        "device.calls = getattr(device, 'calls', 0) + 1; r = infer(model); assert not r.measured; "
        "assert (infer.device, infer.batch_size, r.output, device.kernels) == ('cpu', 8, 'output', 1)",
    )
    result = project.run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_model?cpu-b8? PASSED*"])
    result.stdout.no_fnmatch_line("*infergate:*")
    assert not (project.path / ".infergate").exists()


def test_figures_of_an_unmeasured_result_say_how_to_get_them(project):
    project.test(body="infer(model).latency")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*this run did not measure; run pytest with --infer-devices=cpu*"])


def test_each_device_and_batch_size_is_an_item(project):
    project.test("batch_sizes=[1, 8]", "r = infer(model); assert r.measured")
    result = project.run("--infer-devices=fake,accel,ghost", "-v", "-rs")
    result.assert_outcomes(passed=4, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "infergate: 4 cases on fake, accel, ghost, about 20 s",
            "*test_model?fake-b1? PASSED*",
            "*test_model?fake-b8? PASSED*",
            "*test_model?accel-b1? PASSED*",
            "*test_model?accel-b8? PASSED*",
            "*test_model?ghost-b1? SKIPPED*no ghost device found*",
            "passed: 0 of 6 cases decided, 4 no-baseline, 2 not-measured*",
        ]
    )


def test_the_users_parameters_follow_in_the_id_and_stand_in_the_key(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("size", [4, 5], ids=["cpu-b8", "large"])
        @pytest.mark.inference(batch_sizes=[8])
        def test_model(infer, model, size):
            infer(model)
        """
    )
    result = project.measure("-v", "--infer-json=r.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*?fake-b8-cpu-b8? PASSED*", "*?fake-b8-large? PASSED*"])
    cases = [entry["case"] for entry in json.loads((project.path / "r.json").read_text())["cases"]]
    assert {"test": "test_it.py::test_model", "params": "cpu-b8", "device": "fake", "batch_size": 8} in [
        case | {"test": "test_it.py::test_model"} for case in cases
    ]


def test_figures_reach_the_test(project):
    project.takes(0.002)
    project.test(
        "batch_sizes=[4]",
        "r = infer(model); assert r.latency.p50 == r.latency.samples[0] == 0.002; "
        "assert r.throughput == 4 / 0.002; assert r.memory.peak == 1_000_000; assert r.cold_start == 0.002; "
        "assert r.stream is None; assert 'p50=0.002' in repr(r)",
    )
    project.measure().assert_outcomes(passed=1)


def test_the_fixture_without_the_marker_acts_like_a_bare_marker(project):
    project.pytester.makepyfile("def test_model(infer, model):\n    assert infer(model).measured")
    result = project.measure("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_model?fake? PASSED*"])


def test_an_unchanged_model_passes_against_its_baseline(project):
    project.test()
    for _ in range(4):
        project.record()
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*equivalent*", "passed: 1 of 1 case decided"])
    assert result.ret == 0


@pytest.mark.parametrize("times", [5, 8, 100])
def test_a_slowdown_fails_the_test_from_a_baseline_of_one_session(project, times):
    project.test()
    project.record()
    project.takes(0.010 * times)
    result = project.measure("--junitxml=junit.xml")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*regressed*", "FAILED: 1 of 1 case decided, 1 regressed", "*1 case regressed"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_infergate/*.py:*")
    case = next(ET.parse(project.path / "junit.xml").iter("testcase"))
    assert case.find("failure") is not None
    properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
    assert properties["infergate.verdict"] == "regressed"
    assert properties["infergate.device"] == "fake"


def test_the_failure_says_what_was_measured_allowed_how_sure_and_what_next(project):
    project.test()
    project.record()
    project.takes(0.050)
    output = project.measure().stdout.str()
    for words in ("50.0 ms", "10.0 ms", "25", "--infer-save", "x5.0"):
        assert words in output


def test_a_slower_machine_is_not_a_slower_model(project):
    project.test()
    project.record()
    project.pytester.makeconftest(
        project.pytester.path.joinpath("conftest.py").read_text() + "\nDEVICE.slowness = 5"
    )
    project.takes(0.050)
    result = project.measure()
    result.assert_outcomes(passed=1)
    assert "regressed" not in result.stdout.str()


def test_a_disturbed_case_says_so_and_is_never_red_where_others_overran_it(project):
    project.test("budget={'p50_ms': 100}")
    project.record()
    original = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(original + "\nDEVICE.others = 0.2")
    project.takes(0.025)
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*suspected*", "*other processes took 20% of the case's processor time*"])
    project.takes(0.060)
    project.measure().assert_outcomes(failed=1)
    project.takes(0.2)
    project.pytester.makeconftest(original + "\nDEVICE.others = 0.5")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*suspected*"])


def test_a_broken_budget_fails_by_name(project):
    project.test("budget={'p95_ms': 4}")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*p95*10.0 ms*4.00 ms*", "FAILED: 1 of 1 case decided, 1 over-budget"])


def test_a_kept_budget_passes_and_is_shown(project):
    project.test("budget={'p95_ms': 40, 'throughput_per_s': 10}")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*kept*no-baseline*"])


def test_a_budget_that_cannot_be_checked_fails(project):
    project.test("budget={'usd_per_million': 3.0}")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*usd_per_million*not decided*price*", "*write fake = { usd_per_hour = ... } into *"]
    )


def test_a_budget_that_needs_more_calls_gets_them(project):
    project.test("budget={'p99_ms': 40}", "assert len(infer(model).latency.samples) >= 459")
    project.measure().assert_outcomes(passed=1)


def test_budgets_by_pattern_come_from_the_table(project):
    project.test()
    (project.path / "pyproject.toml").write_text("[tool.infergate.budgets]\n'*::test_*' = {p95_ms = 4}\n")
    project.measure().assert_outcomes(failed=1)


def test_save_says_what_it_recorded(project):
    project.test("batch_sizes=[1, 2]", "infer(model); assert infer.batch_size == 1")
    result = project.measure("--infer-save")
    result.stdout.fnmatch_lines(["recorded 1 case into *baselines; 1 case left out, failed or not measured"])


def test_save_never_fails_on_a_regression_and_still_on_a_budget(project):
    project.test("budget={'p50_ms': 100}")
    project.record()
    project.takes(0.050)
    result = project.measure("--infer-save")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*regressed*"])
    assert json.loads(next((project.path / ".infergate/baselines").glob("*.json")).read_text())["cases"][0][
        "sessions"
    ][1]["p50"] == pytest.approx(0.05)
    project.takes(1)
    project.measure("--infer-save").assert_outcomes(failed=1)
    text = next((project.path / ".infergate/baselines").glob("*.json")).read_text()
    assert len(json.loads(text)["cases"][0]["sessions"]) == 2


@pytest.mark.parametrize(
    ("options", "marker", "code"),
    [
        ((), "", 1),
        (("--infer-gate=warn",), "", 0),
        (("--infer-gate=off",), "", 0),
        ((), "gate='warn'", 0),
        ((), "gate=False", 0),
        (("--infer-gate=fail",), "gate=False", 1),
    ],
)
def test_the_gate_fails_warns_or_is_off(project, options, marker, code):
    project.test(marker)
    project.record()
    project.takes(0.050)
    result = project.measure(*options)
    assert result.ret == code
    result.stdout.fnmatch_lines(["*regressed*"])


def test_strict_fails_what_was_not_decided(project):
    project.test()
    result = project.measure("--infer-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no-baseline*"])


@pytest.mark.parametrize(
    ("option", "marker", "code"),
    [
        ("", "", 1),
        ("--infer-tolerance=900%", "", 0),
        ("", "tolerance='900%'", 0),
        ("--infer-tolerance=p50=0.1", "tolerance='900%'", 1),
    ],
)
def test_tolerance_widens_by_command_line_over_marker(project, option, marker, code):
    project.test(marker)
    project.record()
    project.takes(0.050)
    assert project.measure(*filter(None, [option])).ret == code


def test_more_memory_is_a_regression(project):
    project.test()
    project.record()
    conftest = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(conftest + "\nDEVICE.activations = 9_000_000")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memory*9.00 MB*1.00 MB*"])


def test_new_missing_and_renamed_cases_are_listed(project):
    project.test(name="test_old")
    project.test(name="test_gone", file="test_other.py")
    project.record()
    (project.path / "test_other.py").write_text("")
    project.test(name="test_new")
    project.test(name="test_brand", file="test_third.py", arguments="batch_sizes=[3]")
    result = project.measure()
    result.stdout.fnmatch_lines_random(
        ["*test_brand*", "*test_it.py::test_old*test_it.py::test_new*", "*test_other.py::test_gone*"]
    )


def test_a_run_of_one_file_misses_nothing_elsewhere(project):
    project.test()
    project.test(file="test_other.py")
    project.record()
    assert "missing" not in project.measure("test_it.py").stdout.str()
    assert "missing" not in project.measure("-k", "test_it").stdout.str()


def test_reports_are_written_and_named(project):
    project.test()
    result = project.measure("--infer-report=report.html", "--infer-json=results.json")
    result.stdout.fnmatch_lines_random(["wrote *report.html", "wrote *results.json"])
    assert "<!doctype html>" in (project.path / "report.html").read_text().lower()
    assert json.loads((project.path / "results.json").read_text())["gate"]["passed"] is True


def test_an_accelerator_is_measured_with_its_own_figures(project):
    project.test(
        body="m = infer(model).measurement; "
        "assert (m.latency.p50.value, m.enqueue, m.device_time) == (0.01001, 1e-5, 0.01001)"
    )
    project.run("--infer-devices=accel").assert_outcomes(passed=1)


def test_hardware_classes_have_a_file_each_and_do_not_compare(project):
    project.test()
    project.record()
    conftest = (project.path / "conftest.py").read_text()
    project.pytester.makeconftest(conftest.replace('FakeDevice("fake")', 'FakeDevice("fake", cores=8)'))
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["passed: 0 of 1 case decided, 1 incomparable: other core count (exact counters unchanged)"]
    )
    project.record()
    assert len(list((project.path / ".infergate/baselines").glob("*.json"))) == 2


def test_a_stream_is_timed_item_by_item(project):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.inference(budget={"ttft_ms": 100, "tokens_per_s": 10})
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
    project.measure().assert_outcomes(passed=1)


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


def test_disable_wins_over_everything(project):
    project.test(body="assert not infer(model).measured")
    project.measure("--infer-disable", "--infer-strict").assert_outcomes(passed=1)


@pytest.mark.torch
def test_auto_stands_for_what_is_there(project):
    project.test("devices=['fake', 'accel', 'ghost']")
    result = project.run("--infer-devices=auto", "-v")
    result.assert_outcomes(passed=2)


def test_deselected_tests_are_told_with_the_reason(project):
    project.test("devices=['accel']")
    project.test(file="test_other.py")
    result = project.measure()
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*devices: fake asked for, the marker allows accel*"])


def test_max_time_and_max_total_bound_the_run(project):
    project.takes(0.5)
    project.test("batch_sizes=[1, 2], max_time='3s'", "r = infer(model); assert sum(r.latency.samples) <= 4")
    project.measure().assert_outcomes(passed=2)


def test_a_spent_total_skips_the_rest_and_is_not_green_for_strict(project, monkeypatch):
    ticks = iter(range(0, 1000, 50))
    monkeypatch.setattr("pytest_infergate.runner.run.time.monotonic", lambda: next(ticks))
    project.test("batch_sizes=[1, 2]")
    result = project.measure("--infer-max-total=20s", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*--infer-max-total of 20 s was spent before this case*"])


def test_min_decided_is_a_condition(project):
    project.test()
    result = project.measure("--infer-min-decided=80%")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*0 of 1 case decided, --infer-min-decided asks for 80 %"])


@pytest.mark.parametrize("name", ["devices", "save", "json"])
def test_an_ini_value_switches_measuring_on(project, name):
    project.test(body="assert infer(model).measured", arguments="devices=['fake', 'cpu']")
    values = {"devices": "fake", "save": "true", "json": "r.json"}
    lines = {f"infer_{name}": values[name], "infer_devices": "fake"}
    (project.path / "pytest.ini").write_text("[pytest]\n" + "\n".join(f"{k} = {v}" for k, v in lines.items()))
    project.run().assert_outcomes(passed=1)


def test_other_ini_values_do_not(project):
    project.test(body="assert not infer(model).measured")
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_tolerance = 30%\ninfer_gate = warn\n")
    project.run().assert_outcomes(passed=1)
