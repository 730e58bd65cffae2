"""The fastest case that agrees, and what may not be named: a mismatch, a disturbed time, an unchecked output."""

import math

import msgspec
import pytest
from core_values import case, latency, measurement, result

from pytest_infergate.core.advice.runtime_choice import CALL_OVERHEAD, FEW_OPERATORS, runtime_choices
from pytest_infergate.core.domain.measurement import (
    CONTENDED,
    Accuracy,
    Conversion,
    Counters,
    Estimate,
    Parity,
)
from pytest_infergate.core.domain.outcome import Outcome
from pytest_infergate.core.domain.values import Hardware, Note

AGREES = Parity(error=4e-7, cosine=1.0)
DIFFERS = Parity(error=0.4, cosine=0.7, difference="the output: differs by 0.4")


def timed(runtime="eager", p50=0.010, dtype=None, parity=AGREES, axes=(), **fields):
    """A result with bounds of 1 % around its median."""
    of = case(device="cpu", runtime=runtime, dtype=dtype, **dict(axes))
    if runtime == "eager" and dtype is None and parity is AGREES:
        parity = None
    median = Estimate(value=p50, low=p50 * 0.99, high=p50 * 1.01)
    known = {
        "latency": msgspec.structs.replace(latency(p50), p50=median),
        "parity": parity,
        "contention": 0.0,
    }
    return result(measurement=measurement(p50, **{**known, **fields}), of=of)


def only(*results):
    (choice,) = runtime_choices(results)
    return choice


def name(one):
    return None if one is None else (one.case.runtime, one.case.dtype)


def test_the_fastest_that_agrees_with_its_factor_and_error():
    lossy = Parity(error=8e-3, cosine=0.9999)
    choice = only(
        timed(),
        timed("compile", 0.005),
        timed("openvino", 0.010 / 3.9, "bfloat16", lossy),
        timed("slow", 0.02),
    )
    assert name(choice.fastest) == ("openvino", "bfloat16")
    assert choice.fastest.error == 8e-3
    assert choice.speedup == pytest.approx(3.9)
    assert choice.alike == ()
    assert choice.eager.error == 0.0


def test_a_case_with_too_low_accuracy_is_never_the_fastest():
    good, low, high = (Accuracy(name="top1", value=value, reference=0.9) for value in (0.895, 0.8, 0.91))
    choice = only(
        timed(accuracy=Accuracy(name="top1", value=0.9)),
        timed("onnxruntime", 0.001, "int8", accuracy=low),
        timed("compile", 0.006, accuracy=high),
        timed("compile", 0.005, "bfloat16", accuracy=good),
    )
    assert name(choice.fastest) == ("compile", "bfloat16")
    assert choice.fastest.accuracy == 0.895
    assert [one.inaccurate for one in choice.cases].count(True) == 1


def test_accuracy_may_be_compared_in_place_of_the_output():
    reference = timed(accuracy=Accuracy(name="top1", value=0.9))
    compared = Accuracy(name="top1", value=0.9, reference=0.9)
    choice = only(reference, timed("compile", 0.005, parity=None, accuracy=compared))
    assert name(choice.fastest) == ("compile", None)
    unknown = only(reference, timed("compile", 0.005, accuracy=Accuracy(name="top1", value=0.9)))
    assert unknown.cases[1].unranked == "the accuracy was not compared"
    assert unknown.fastest is None


def test_a_mismatch_is_never_the_fastest():
    choice = only(timed(), timed("openvino", 0.001, parity=DIFFERS), timed("compile", 0.008))
    assert name(choice.fastest) == ("compile", None)
    assert only(timed(), timed("openvino", 0.001, parity=DIFFERS)).fastest.case.runtime == "eager"
    both = [timed("compile", 0.002, parity=DIFFERS), timed("openvino", 0.001, parity=DIFFERS)]
    assert only(*both).fastest is None


@pytest.mark.parametrize(
    "fields",
    [
        {"contention": CONTENDED + 0.001},
        {"contention": math.nan},
        {"parity": None},
        {"parity": Parity(uncompared=("the output",))},
        {"parity": Parity(error=math.inf)},
    ],
)
def test_what_is_unknown_or_disturbed_is_not_ranked(fields):
    slow = timed("openvino", 0.009, **fields)
    choice = only(timed(), timed("compile", 0.008), slow)
    assert name(choice.fastest) == ("compile", None)
    assert [bool(one.unranked) for one in choice.cases] == [False, False, True]
    # One case that is left has won against nothing.
    assert all(one.fastest is None for one in runtime_choices([timed(), slow]))
    # One that took less time although it was disturbed is faster, and cannot be named.
    choice = only(timed(), timed("compile", 0.008), timed("openvino", 0.007, **fields))
    assert (choice.fastest, [name(one)[0] for one in choice.quicker]) == (None, ["openvino"])


def test_a_mismatch_that_is_not_ranked_hides_no_other_case():
    differs = timed("openvino", 0.001, parity=DIFFERS, contention=0.5)
    choice = only(timed(), timed("compile", 0.008), differs)
    assert (name(choice.fastest), choice.quicker) == (("compile", None), ())


def test_a_time_without_bounds_is_not_ranked():
    few = timed("openvino", 0.009)
    times = msgspec.structs.replace(few.measurement.latency, p50=Estimate(value=0.009, low=0.0089))
    few = msgspec.structs.replace(few, measurement=msgspec.structs.replace(few.measurement, latency=times))
    assert name(only(timed(), timed("compile", 0.008), few).fastest) == ("compile", None)


def test_contention_at_its_limit_or_unknown_is_ranked():
    for share in (CONTENDED, None):
        assert name(only(timed(), timed("compile", 0.008, contention=share)).fastest) == ("compile", None)


def test_a_disturbed_eager_case_gives_no_factor():
    choice = only(timed(contention=0.4), timed("compile", 0.005), timed("openvino", 0.002))
    assert name(choice.fastest) == ("openvino", None)
    assert (choice.eager, choice.speedup) == (None, None)


def test_times_that_cannot_be_told_apart_are_named_together():
    """The bounds are 1 % on either side: 2 % apart they meet."""
    choice = only(timed(), timed("compile", 0.00500), timed("aoti", 0.00509), timed("openvino", 0.00512))
    assert [name(one)[0] for one in choice.alike] == ["aoti"]


def test_the_factor_is_that_of_eager_in_its_usual_dtype():
    choice = only(
        timed("eager", 0.030, "bfloat16"),
        timed("eager", 0.010, "float32"),
        timed("compile", 0.005, "float32"),
    )
    assert name(choice.eager) == ("eager", "float32")
    assert choice.speedup == pytest.approx(2.0)


def test_cases_are_in_one_order_whatever_that_of_the_results_is():
    dtypes = ("bfloat16", "float16", "float32")
    results = [timed(runtime, 0.01, dtype) for runtime in ("compile", "aoti", "eager") for dtype in dtypes]
    expected = [
        (runtime, dtype)
        for runtime in ("eager", "aoti", "compile")
        for dtype in ("float32", "bfloat16", "float16")
    ]
    assert [name(one) for one in only(*results).cases] == expected
    assert [name(one) for one in only(*reversed(results)).cases] == expected


def test_machines_devices_and_batches_are_choices_of_their_own():
    other = Hardware(cpu_model="other", cores=2)
    results = [
        timed(runtime, axes=tuple(axes.items()))
        for axes in ({}, {"batch_size": 8}, {"threads": 2}, {"params": "a"})
        for runtime in ("eager", "compile")
    ]
    results += [msgspec.structs.replace(one, hardware=other) for one in results[:2]]
    assert [len(choice.cases) for choice in runtime_choices(results)] == [2] * 5


def test_there_is_no_choice_without_times_or_without_a_comparison():
    failed = msgspec.structs.replace(timed("compile"), outcome=Outcome.INVALID)
    for second in (
        failed,
        timed("compile", latency=None),
        timed("compile", 0.0),
        timed("compile", parity=None),
    ):
        assert runtime_choices([timed(), second]) == ()
    assert runtime_choices([timed("compile")]) == ()


# Why a runtime is slower


def why(second, **eager):
    """What is said of a runtime beside eager PyTorch, which takes 10 ms."""
    return (
        only(timed(**{"counters": Counters(totals={"operators": 90}), **eager}), second).cases[1].why_slower
    )


def compiled(p50=0.020, notes=(), **totals):
    return timed("compile", p50, counters=Counters(totals=totals), notes=notes)


CONVERTED = Conversion(export=1.0, build=2.0, load=0.1, size=1000)


def test_only_what_is_known_is_said(snapshot):
    few = {"counters": Counters(totals={"operators": FEW_OPERATORS})}
    reasons = {
        "breaks": why(compiled(graph_breaks=3, recompiles=0)),
        "breaks and compiled again": why(compiled(graph_breaks=1, recompiles=2)),
        "breaks, by its note": why(compiled(notes=(Note(code="graph-breaks", text="it broke"),))),
        "compiled again, by its note": why(compiled(notes=(Note(code="recompiled", text="again"),))),
        "few operators": why(compiled(), **few),
        "threads": why(timed("aoti", 0.020, threads=1), threads=2),
        "a short call": why(timed("onnxruntime", 30e-6, conversion=CONVERTED), p50=10e-6),
    }
    assert all(reasons.values())
    assert "\n".join(f"{case}: {text}" for case, text in reasons.items()) == snapshot


def test_nothing_is_said_where_nothing_is_known():
    few = {"counters": Counters(totals={"operators": FEW_OPERATORS})}
    more = {"counters": Counters(totals={"operators": FEW_OPERATORS + 1})}
    long = {"p50": CALL_OVERHEAD * 1.01}
    silent = [
        why(compiled(graph_breaks=0, recompiles=0)),
        why(compiled(), **more),
        why(timed("openvino", 0.020, conversion=CONVERTED), **few),
        why(timed("openvino", CALL_OVERHEAD * 1.1, conversion=CONVERTED), **long),
        why(timed("openvino", CALL_OVERHEAD * 2.2, conversion=CONVERTED), p50=CALL_OVERHEAD),
        # Faster, not clearly slower, and disturbed.
        why(compiled(0.005, graph_breaks=3)),
        why(compiled(0.0101, graph_breaks=3)),
        why(timed("compile", 0.020, counters=Counters(totals={"graph_breaks": 3}), contention=0.5)),
    ]
    assert set(silent) == {""}


@pytest.mark.parametrize("totals", [{}, {"operators": 90}, {"dtype_casts": 4}])
def test_nothing_is_said_of_a_dtype_without_more_operators(totals):
    assert why(timed(p50=0.020, dtype="int8", counters=Counters(totals=totals))) == ""


def test_a_dtype_in_eager_is_compared_with_the_usual_one():
    def called(**totals):
        return Counters(totals=totals)

    for usual in (None, "float32"):
        choice = only(
            timed(dtype=usual, counters=called(operators=3)),
            timed(p50=0.020, dtype="int8", counters=called(operators=49, dtype_casts=6)),
            timed(p50=0.020, dtype="float16", counters=called(operators=4)),
            timed(p50=0.005, dtype="bfloat16", counters=called(operators=9)),
        )
        assert {name(one)[1]: one.why_slower for one in choice.cases} == {
            usual: "",
            "int8": "it calls 49 operators, of which 6 only cast, in place of 3",
            "float16": "it calls 4 operators in place of 3",
            "bfloat16": "",
        }


def test_a_runtime_is_compared_with_eager_in_its_own_dtype():
    eager = [timed(dtype=dtype, p50=p50) for dtype, p50 in (("float32", 0.01), ("bfloat16", 0.05))]
    slower = timed("compile", 0.02, "bfloat16", counters=Counters(totals={"graph_breaks": 3}))
    assert only(*eager, slower).cases[2].why_slower == ""
