"""Ways and offers: what a file from elsewhere may hold makes none, and several machines are distinguished."""

import math

import msgspec
import pytest
from core_values import ENVIRONMENT, HARDWARE, OTHER_HARDWARE, case, latency, measurement, result

from pytest_infergate.core.advice import deployments, priced_deployments
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.measurement import CallOrder, ConcurrentRun, Energy, Measurement
from pytest_infergate.core.domain.outcome import Against, CaseVerdict, Outcome, Policy, Session, Verdict
from pytest_infergate.core.domain.sampled import Sampled
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.core.gate import decide

OWN = Instance(
    provider="own", region="", name="own cpu", vcpus=0, memory_gib=None, usd_per_hour=0.1, as_of=""
)
RENTED = Instance(
    provider="lab", region="cellar", name="small", vcpus=4, memory_gib=8.0, cpu_model="Test CPU",
    usd_per_hour=0.2, as_of="2026-07-20",
)  # fmt: skip


def timed(seconds=0.02, size=1, hardware=HARDWARE, **fields):
    """Calls that all take the same time."""
    constant = msgspec.structs.replace(latency(seconds), percentiles=(seconds,) * 101)
    return result(
        of=case(batch_size=size),
        hardware=hardware,
        measurement=measurement(0.02, **{"latency": constant, **fields}),
    )


def run_of(*results):
    return Session(
        tool_version="0.1.0",
        created="2026-07-01T12:00:00Z",
        environment=ENVIRONMENT,
        cases=results,
        gate=decide.gate_session((), Policy()),
    )


def ways(*results):
    return deployments.deployments([run_of(*results)])


def sizes(*results):
    return [one.service.batch_sizes for one in ways(*results)]


def test_cases_of_another_dtype_or_number_of_threads_are_deployments_of_their_own():
    plain = timed()
    others = [
        msgspec.structs.replace(plain, case=case(batch_size=1, **axis))
        for axis in ({"threads": 1}, {"threads": 2}, {"dtype": "float16"}, {"dtype": "bfloat16"})
    ]
    found = {(way.dtype, way.threads) for way in ways(plain, *others)}
    assert found == {(None, None), (None, 1), (None, 2), ("float16", None), ("bfloat16", None)}


def test_a_batch_of_nothing_makes_no_way():
    for size in [0, -1, -(2**63)]:
        assert sizes(timed(size=size), timed(size=8)) == [(8,)], size
        assert ways(timed(size=size)) == (), size


def test_each_end_of_a_distribution_must_be_a_time_that_a_clock_tells():
    for percentiles in [(1e-12,) + (0.02,) * 100, (0.02,) * 100 + (1e8,)]:
        broken = msgspec.structs.replace(latency(0.02), percentiles=percentiles)
        assert ways(timed(latency=broken)) == (), percentiles


def test_a_call_takes_from_a_nanosecond_to_ten_million_seconds():
    for seconds, found in [(0.99e-9, []), (1e-9, [(1,)]), (1e7, [(1,)]), (1e7 + 1, [])]:
        assert sizes(timed(seconds)) == found, seconds


def test_times_that_no_clock_tells_make_no_way():
    for seconds in [5e-324, 1e-12, 1e8, 1e308]:
        assert sizes(timed(seconds), timed(size=8)) == [(8,)], seconds


def test_very_short_and_very_long_calls_make_one():
    for seconds in [1e-8, 1e6]:
        assert sizes(timed(seconds)) == [(1,)], seconds


def test_copies_that_no_clock_tells_make_no_way():
    assert ways(timed(host_to_host=1e308)) == ()
    assert sizes(timed(host_to_host=-1.0)) == [(1,)]


def runs(workers, seconds=0.03):
    return ConcurrentRun(
        workers=workers, throughput=1.0, calls=100, mean=seconds, percentiles=(seconds,) * 101
    )


def test_concurrent_workers_are_two_or_more():
    concurrent = tuple(map(runs, (-1, 0, 1, 2)))
    assert [one.workers for one in ways(timed(concurrent_runs=concurrent))] == [1, 2]


def test_concurrent_workers_with_implausible_times_are_left_out():
    for seconds in [5e-324, 1e308]:
        assert [one.workers for one in ways(timed(concurrent_runs=(runs(2, seconds),)))] == [1], seconds


def metered(**fields):
    known = {
        "joules": 1.0,
        "source": "nvml",
        "scope": "board",
        "seconds": 2.0,
        "calls": 50,
        "idle_watts": 20.0,
    }
    return Energy(**{**known, **fields})


def test_energy_that_no_meter_tells_is_not_known():
    for fields in [
        {"seconds": 0.0},
        {"seconds": -1.0},
        {"calls": 0},
        {"batch_size": 0},
        {"joules": -1.0},
        {"joules": 1e308},
        {"idle_watts": -1.0},
        {"idle_watts": 1e308},
    ]:
        (usual,) = ways(timed(energy=metered()))
        assert dict(usual.energies) == {1: metered()}, fields
        (strange,) = ways(timed(energy=metered(**fields)))
        assert not strange.energies, fields


# Several machines of one name


def offered(*machines, prices):
    made, _ = priced_deployments.priced_deployments(
        ways(*(timed(hardware=one) for one in machines)), (), prices
    )
    return [priced.text for priced in made]


def test_a_price_that_is_said_of_several_machines_names_each():
    assert offered(HARDWARE, OTHER_HARDWARE, prices={"cpu": OWN}) == [
        "own cpu, 4 cores of Other CPU (cpu)",
        "own cpu, 4 cores of Test CPU (cpu)",
    ]


def test_one_price_for_several_machines_is_noted(snapshot):
    found = ways(timed(hardware=HARDWARE), timed(hardware=OTHER_HARDWARE))
    _, (note,) = priced_deployments.priced_deployments(found, (), {"cpu": OWN})
    assert f"{OTHER_HARDWARE.id}, {HARDWARE.id}" in note.hint
    assert str(note) == snapshot
    assert priced_deployments.priced_deployments(found[:1], (), {"cpu": OWN})[1] == ()


def test_machines_of_one_kind_are_asked_for_by_their_class():
    _, notes = priced_deployments.priced_deployments(
        ways(timed(hardware=HARDWARE), timed(hardware=OTHER_HARDWARE)), (), {}
    )
    assert [
        f"--price {one.id}=USD_PER_HOUR" in note.hint
        for one, note in zip((OTHER_HARDWARE, HARDWARE), notes, strict=True)
    ] == [True, True]
    _, (alone,) = priced_deployments.priced_deployments(ways(timed(hardware=HARDWARE)), (), {})
    assert "--price cpu=USD_PER_HOUR" in alone.hint


def test_machines_of_the_same_words_go_by_their_class():
    control_worker = Hardware(cpu_model="Test CPU", isa=("avx512",), cores=4)
    words = offered(HARDWARE, control_worker, prices={"cpu": OWN})
    assert sorted(words) == sorted(f"own cpu, {one.id} (cpu)" for one in (HARDWARE, control_worker))


def test_one_machine_keeps_its_name():
    assert offered(HARDWARE, prices={"cpu": OWN}) == ["own cpu (cpu)"]
    assert offered(HARDWARE, OTHER_HARDWARE, prices={HARDWARE.id: OWN}) == ["own cpu (cpu)"]


def test_an_instance_that_two_classes_stand_for_names_both():
    control_worker = Hardware(cpu_model="Test CPU", cores=4)
    words = offered(HARDWARE, control_worker, prices={"cpu": RENTED})
    assert sorted(words) == sorted(f"small, {one.id} (cpu)" for one in (HARDWARE, control_worker))
    assert offered(HARDWARE, prices={"cpu": RENTED}) == ["small (cpu)"]


# What is left out, and what is doubtful


def judged(*results, verdict=Verdict.EQUIVALENT):
    verdicts = [
        CaseVerdict(case=one.case, nodeid=one.nodeid, verdict=verdict, failed=False) for one in results
    ]
    return msgspec.structs.replace(run_of(*results), gate=decide.gate_session(verdicts, Policy()))


def test_left_out_cases_are_noted(snapshot):
    runs = {
        "mismatch": judged(timed(), verdict=Verdict.MISMATCH),
        "invalid": judged(timed(), verdict=Verdict.INVALID),
        "failed": run_of(msgspec.structs.replace(timed(), outcome=Outcome.FAILED)),
        "no times": run_of(msgspec.structs.replace(timed(), measurement=None)),
        "no hardware": run_of(msgspec.structs.replace(timed(), hardware=None)),
        "no batch": run_of(timed(size=0)),
    }
    said = {}
    for why, run in runs.items():
        assert deployments.deployments([run]) == (), why
        (of,) = run.cases
        ((name, (note,)),) = deployments.left_out([run]).items()
        assert name == deployments.model_name(of.case), why
        assert note.code == "left-out", why
        said[why] = str(note)
    assert said == snapshot


def test_cases_left_out_for_one_reason_are_noted_once(snapshot):
    ((_, notes),) = deployments.left_out(
        [run_of(timed(), timed(size=0), timed(size=-1), timed(size=-2))]
    ).items()
    assert len(notes) == 1
    assert str(notes[0]) == snapshot


def test_nothing_is_said_of_what_was_used_or_skipped_or_paired():
    skipped = msgspec.structs.replace(timed(size=8), outcome=Outcome.SKIPPED)
    assert deployments.left_out([run_of(timed(), skipped)]) == {}
    paired = msgspec.structs.replace(run_of(timed(size=0)), against=Against(revision="main"))
    assert deployments.left_out([paired]) == {}


def noted(code, size=1):
    return timed(size=size, notes=(Note(code=code, text=f"it is {code}", hint="a hint"),))


def test_a_doubtful_measurement_is_doubted():
    for code in ["cpu-contention", "not-steady", "page-faults"]:
        (deployment,) = ways(noted(code))
        assert [str(note) for note in deployment.doubts] == [
            f"{noted(code).nodeid}: it is {code} (a hint)"
        ], code


def test_a_doubt_about_several_cases_is_noted_once(snapshot):
    (deployment,) = ways(
        noted("cpu-contention", 8), noted("cpu-contention", 1), timed(size=2), noted("cpu-contention", 4)
    )
    assert len(deployment.doubts) == 1
    assert str(deployment.doubts[0]) == snapshot


def test_a_note_that_does_not_touch_advice_is_left_where_it_is():
    (deployment,) = ways(noted("flops-uncovered"))
    assert deployment.doubts == ()


def test_a_case_that_is_not_as_it_should_be_is_doubted(snapshot):
    doubts = []
    for verdict in (Verdict.OVER_BUDGET, Verdict.REGRESSED, Verdict.SUSPECTED):
        (deployment,) = deployments.deployments([judged(timed(), verdict=verdict)])
        doubts += map(str, deployment.doubts)
    assert doubts == snapshot
    (usual,) = deployments.deployments([judged(timed())])
    assert usual.doubts == ()


def test_cases_that_were_only_counted_are_left_out():
    counted = msgspec.structs.replace(timed(), measurement=Measurement())
    assert deployments.deployments([run_of(counted)]) == ()
    ((_, (note,)),) = deployments.left_out([run_of(counted)]).items()
    assert note.text.endswith("it was counted, and not timed")


def test_workers_and_their_threads_are_named():
    runs = tuple(
        ConcurrentRun(
            workers=workers, throughput=1.0, calls=10, mean=0.1, percentiles=(0.1,) * 101, threads=threads
        )
        for workers, threads in ((2, 2), (4, 1), (8, None))
    )
    found = deployments.deployments([run_of(timed(concurrent_runs=runs))])
    assert [(one.workers, one.threads, one.text) for one in found] == [
        (1, None, "cpu"),
        (2, 2, "cpu, 2 workers of 2 threads"),
        (4, 1, "cpu, 4 workers of 1 thread"),
        (8, None, "cpu, 8 workers"),
    ]


def ordered(size, seconds=(0.02, 0.03), paced=1.2, **fields):
    """Calls with their order, of which 500 were sampled."""
    order = CallOrder(seconds=seconds, run=len(seconds), span=3.0 + size, paced=paced)
    times = msgspec.structs.replace(latency(0.02), percentiles=(0.02,) * 101, count=500)
    return timed(size=size, latency=times, call_order=order, **fields)


def test_a_deployment_knows_what_its_times_rest_on():
    (way,) = ways(ordered(1), ordered(8, paced=1.3), timed(size=32))
    assert way.service.calls == ((0.02, 0.03), (0.02, 0.03), ())
    assert way.sampled_up_to(1) == Sampled(calls=500, seconds=4.0, ordered=True, paced=1.3)
    assert way.sampled_up_to(8) == Sampled(calls=500, seconds=4.0, ordered=True, paced=1.3)
    assert way.sampled_up_to(8).promised
    weakest = way.sampled_up_to(32)
    assert (weakest.calls, weakest.seconds, weakest.ordered) == (500, None, False)
    assert not weakest.promised
    assert way.slowdown == pytest.approx(1.3 * math.exp(way.launch_band))


def test_calls_are_never_faster_in_a_slow_launch():
    for paced in (None, 0.9, 0.0, -1.0, 1e9, float("inf"), float("nan")):
        (way,) = ways(ordered(1, paced=paced))
        assert way.slowdown == pytest.approx(math.exp(way.launch_band))


def test_copies_to_a_device_are_part_of_each_call():
    (way,) = ways(ordered(1, host_to_host=0.05))
    shift = 0.05 - latency(0.02).p50.value
    assert way.service.calls[0] == pytest.approx((0.02 + shift, 0.03 + shift))


def test_calls_that_cannot_be_leave_a_case_out():
    for wrong in (0.0, -1.0, 1e12, float("nan")):
        assert ways(ordered(1, seconds=(0.02, wrong))) == ()


def test_concurrent_workers_have_no_order():
    run = ConcurrentRun(workers=2, throughput=80.0, calls=700, mean=0.025, percentiles=(0.025,) * 101)
    _, both = ways(ordered(1, concurrent_runs=(run,)))
    assert both.service.order_of(1) is None
    assert both.sampled == (Sampled(calls=700),)
