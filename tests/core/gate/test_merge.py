import itertools

import msgspec
from core_values import ENVIRONMENT, HARDWARE, OTHER_HARDWARE, case, measurement, refusal, result

from pytest_infergate.core.domain.outcome import CaseVerdict, Outcome, Policy, Session, Verdict
from pytest_infergate.core.domain.values import Environment, Hardware, Note
from pytest_infergate.core.gate import decide
from pytest_infergate.core.gate.merge import flat_session, machines, merge_order, merge_sessions

GPU = Hardware(cpu_model="Test CPU", isa=("avx2",), cores=4, accelerator="NVIDIA L4", accelerator_count=1)


def verdict_of(one, kind, *, failed=False):
    return CaseVerdict(case=one.case, nodeid=one.nodeid, verdict=kind, failed=failed)


def session(*results, created="2026-07-01T12:00:00Z", environment=ENVIRONMENT, verdicts=None):
    if verdicts is None:
        kinds = {Outcome.MEASURED: Verdict.EQUIVALENT}
        verdicts = [verdict_of(one, kinds.get(one.outcome, Verdict.NOT_MEASURED)) for one in results]
    return Session(
        tool_version="0.1.0",
        created=created,
        environment=environment,
        cases=results,
        gate=decide.gate_session(verdicts, Policy()),
    )


CPU_RUN = session(
    result(of=case()),
    result(Outcome.SKIPPED, of=case(device="cuda"), hardware=None),
)
GPU_RUN = session(result(of=case(device="cuda"), hardware=GPU), created="2026-07-01T13:00:00Z")
OTHER_RUN = session(result(of=case(), hardware=OTHER_HARDWARE), created="2026-07-01T11:00:00Z")
RUNS = (("cpu.json", CPU_RUN), ("gpu.json", GPU_RUN), ("other.json", OTHER_RUN))


def test_the_order_of_files_changes_nothing():
    merged = [merge_sessions(order) for order in itertools.permutations(RUNS)]
    assert all(other == merged[0] for other in merged)
    assert len(merged[0]) == 3


def test_a_file_given_twice_counts_once():
    assert merge_sessions([*RUNS, RUNS[0], RUNS[0]]) == merge_sessions(RUNS)


def test_only_sessions_of_one_machine_and_time_are_compared():
    def content(place):
        asked.append(place)
        return b"same"

    asked = []
    assert merge_order(RUNS, content) == [1, 2, 0]
    assert asked == []
    assert merge_order([RUNS[0], RUNS[1], RUNS[0]], content) == [1, 0]
    assert sorted(asked) == [0, 2]


def test_merging_what_was_merged_changes_nothing():
    once = merge_sessions(RUNS)
    assert merge_sessions([("all.json", one) for one in once]) == once
    assert merge_sessions([*RUNS, *(("all.json", one) for one in once)]) == once


def test_one_case_measured_twice_on_one_class_of_hardware_is_a_contradiction(snapshot):
    again = session(result(of=case(), measurement=measurement(0.011)), created="2026-07-02T12:00:00Z")
    text = refusal(merge_sessions, [("cpu.json", CPU_RUN), ("again.json", again)])
    assert case().name in text
    assert HARDWARE.id in text
    assert "cpu.json (2026-07-01T12:00:00Z)" in text
    assert "again.json (2026-07-02T12:00:00Z)" in text
    assert text == snapshot


def test_contradictions_are_found_whatever_axes_the_cases_have():
    cases = [case(), case(dtype="float16"), case(threads=2), case(batch_size=8)]
    first = session(*(result(of=one) for one in cases))
    slower = [result(of=one, measurement=measurement(0.011)) for one in cases]
    second = session(*slower, created="2026-07-02T12:00:00Z")
    assert "test_model[cpu]" in refusal(merge_sessions, [("first.json", first), ("second.json", second)])


def test_other_cases_of_the_same_class_are_none():
    shard = session(result(of=case("tests/test_b.py::test_other")), created="2026-07-02T12:00:00Z")
    assert len(merge_sessions([("a.json", CPU_RUN), ("b.json", shard)])) == 2


def test_an_unmeasured_case_contradicts_nothing():
    skipped = session(result(Outcome.SKIPPED, of=case(), hardware=None), created="2026-07-02T12:00:00Z")
    assert len(merge_sessions([("a.json", CPU_RUN), ("b.json", skipped)])) == 2


def test_a_case_that_one_run_repeats_is_no_contradiction():
    twice = session(result(of=case()), result(of=case()))
    assert merge_sessions([("a.json", twice)]) == (twice,)


def test_one_session_is_shown_as_it_is():
    assert flat_session([CPU_RUN]) is CPU_RUN


def test_no_session_cannot_be_shown():
    refusal(flat_session, [])


def test_a_case_skipped_here_and_measured_there_is_measured():
    shown = flat_session(merge_sessions(RUNS[:2]))
    assert [(one.case.device, one.outcome) for one in shown.cases] == [
        ("cuda", Outcome.MEASURED),
        ("cpu", Outcome.MEASURED),
    ]
    assert {verdict.machine for verdict in shown.gate.verdicts} == {HARDWARE.id, GPU.id}
    assert shown.gate.headline == "gate passed: 2 of 2 cases decided"


def test_a_case_without_any_measurement_stays():
    missing = result(Outcome.SKIPPED, of=case("tests/test_b.py::test_gone"), hardware=None)
    shown = flat_session([session(result(of=case()), missing), GPU_RUN])
    assert missing in shown.cases
    assert Verdict.NOT_MEASURED in {verdict.verdict for verdict in shown.gate.verdicts}


def test_what_failed_on_one_machine_fails_and_names_it():
    slow = result(of=case(), hardware=OTHER_HARDWARE)
    red = session(slow, verdicts=[verdict_of(slow, Verdict.REGRESSED, failed=True)])
    shown = flat_session([red, GPU_RUN])
    assert not shown.gate.passed
    assert shown.gate.reasons == (f"1 case regressed, on {OTHER_HARDWARE.text}",)
    assert shown.gate.headline == "gate FAILED: 2 of 2 cases decided, 1 regressed"
    assert [verdict.machine for verdict in shown.gate.verdicts] == [OTHER_HARDWARE.id, GPU.id]


def test_a_machine_that_measured_nothing_is_never_green():
    empty = session(result(Outcome.SKIPPED, of=case(device="cuda"), hardware=None))
    assert not empty.gate.passed
    shown = flat_session([empty, GPU_RUN])
    assert not shown.gate.passed
    assert "nothing was measured" in shown.gate.reasons[0]
    assert shown.gate.reasons[0].endswith("on a machine without a measured case")


def test_the_environment_is_what_all_share():
    here = Environment(
        os="Linux 6.1", python="3.11.7", packages={"torch": "2.13.0", "numpy": "2.4"}, virtual=False
    )
    there = Environment(
        os="Linux 6.1", python="3.12.1", packages={"torch": "2.13.0", "numpy": "2.5"}, memory_bytes=8
    )
    shown = flat_session(
        [
            session(result(of=case()), environment=here),
            session(result(of=case(device="cuda"), hardware=GPU), environment=there),
        ]
    )
    assert shown.environment == Environment(os="Linux 6.1", packages={"torch": "2.13.0"}, virtual=True)


def test_new_missing_and_deselected_are_listed_once_each():
    note = Note(code="deselected", text="no case on cpu")
    here = msgspec.structs.replace(
        CPU_RUN,
        gate=msgspec.structs.replace(
            CPU_RUN.gate, missing=(case("tests/test_b.py::test_gone"),), deselected=(note,)
        ),
    )
    there = msgspec.structs.replace(GPU_RUN, gate=msgspec.structs.replace(GPU_RUN.gate, deselected=(note,)))
    shown = flat_session([here, there])
    assert shown.gate.missing == (case("tests/test_b.py::test_gone"),)
    assert shown.gate.deselected == (note,)


def test_machines_are_named_by_what_was_measured():
    assert machines(CPU_RUN) == "4 cores of Test CPU"
    assert machines(GPU_RUN) == "1 x NVIDIA L4"
    assert machines(session(result(of=case()), result(of=case(device="cuda"), hardware=GPU))) == (
        "4 cores of Test CPU and 1 x NVIDIA L4"
    )
