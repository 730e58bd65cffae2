"""The cases of a test: what is requested, what the marker allows, and what cannot be combined."""

import dataclasses

import pytest
from inputs import RUNTIMES, parsed

from pytest_infergate.config.case_matrix import axes, axes_of_id
from pytest_infergate.config.marker import Marker


def cases(folder, marker, **options):
    return axes(marker, parsed(folder, {"devices": "fake", **options}), ("cpu",))


def ids(folder, marker, **options):
    return [one.id for one in cases(folder, marker, **options) if one.deselected is None]


def test_the_marker_narrows_the_runtimes_that_are_requested(tmp_path):
    any_runtime = Marker()
    assert ids(tmp_path, any_runtime) == ["cpu"]
    assert ids(tmp_path, any_runtime, runtimes="eager,onnxruntime") == ["cpu-eager", "cpu-onnxruntime"]
    some = Marker(runtimes=("compile:max-autotune", "eager"), dtypes=("float32",), batch_sizes=(8,))
    assert ids(tmp_path, some) == ["cpu-compile:max-autotune-float32-b8", "cpu-eager-float32-b8"]
    assert ids(tmp_path, some, runtimes="eager,aoti") == ["cpu-eager-float32-b8"]
    [none] = cases(tmp_path, some, runtimes="aoti")
    assert none.deselected == "runtimes: aoti requested, the marker allows compile:max-autotune, eager"


def test_what_a_runtime_does_not_support_is_deselected_with_its_reason(tmp_path):
    made = cases(tmp_path, Marker(), runtimes="eager,onnxruntime", dtypes="float32,bfloat16")
    assert {one.id: one.deselected for one in made} == {
        "cpu-eager-float32": None,
        "cpu-eager-bfloat16": None,
        "cpu-onnxruntime-float32": None,
        "cpu-onnxruntime-bfloat16": "ONNX Runtime has no kernels in bfloat16 for the CPU",
    }


def test_a_dtype_that_a_device_or_runtime_does_not_have_is_deselected_with_its_reason(tmp_path):
    dtypes = "tf32,int8,autocast:bfloat16,channels_last"
    made = cases(tmp_path, Marker(), runtimes="eager,onnxruntime,openvino", dtypes=dtypes)
    tf32 = "TF32 exists on CUDA devices only, and not on cpu"
    assert {one.id.removeprefix("cpu-"): one.deselected for one in made if one.deselected} == {
        "eager-tf32": tf32,
        "onnxruntime-tf32": tf32,
        "openvino-tf32": tf32,
        "openvino-int8": "infergate does not quantise for OpenVINO",
        "onnxruntime-autocast:bfloat16": "ONNX Runtime has no kernels in bfloat16 for the CPU",
        "openvino-autocast:bfloat16": "OpenVINO has no precision hint for autocast:bfloat16",
        "onnxruntime-channels_last": "ONNX Runtime decides itself about memory formats",
        "openvino-channels_last": "OpenVINO decides itself about memory formats",
    }


def test_other_runtimes_are_cases_where_they_and_the_base_support_dtype_and_device(tmp_path):
    run = {"dtypes": "float32,bfloat16", "against_runtime": "onnxruntime"}
    made = cases(tmp_path, Marker(), runtimes="eager,onnxruntime", **run)
    unsupported = "ONNX Runtime has no kernels in bfloat16 for the CPU"
    base = "onnxruntime is what other runtimes are compared with"
    assert {one.id: one.deselected for one in made} == {
        "cpu-eager-float32": None,
        "cpu-eager-bfloat16": unsupported,
        "cpu-onnxruntime-float32": base,
        "cpu-onnxruntime-bfloat16": base,
    }
    [alone] = cases(tmp_path, Marker(), against_runtime="eager")
    assert alone.deselected.startswith("eager is what other runtimes are compared with. Hint: ")
    other = Marker(runtimes=("compile",))
    assert ids(tmp_path, other, against_runtime="eager") == ["cpu-compile"]
    assert ids(tmp_path, Marker(), runtimes="compile", against_runtime="compile:max-autotune") == [
        "cpu-compile"
    ]


def test_a_plain_run_is_eager_under_the_id_of_the_first_runtime(tmp_path):
    marker = Marker(runtimes=("compile", "eager"), batch_sizes=(1, 8))
    settings = dataclasses.replace(parsed(tmp_path), measuring=False)
    [only] = axes(marker, settings, ("cpu",))
    assert (only.id, only.runtime, only.batch_size) == ("cpu-compile-b1", "eager", 1)


@pytest.mark.parametrize(
    ("dtype", "cast"), [("int8", None), ("tf32", None), ("bfloat16:channels_last", "bfloat16")]
)
def test_a_plain_run_only_casts(tmp_path, dtype, cast):
    settings = dataclasses.replace(parsed(tmp_path), measuring=False)
    [only] = axes(Marker(dtypes=(dtype, "float32")), settings, ("cpu",))
    assert (only.id, only.dtype) == (f"cpu-{dtype}", cast)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cuda:1-compile:max-autotune-float16-b8-t2-user", ("cuda:1-compile:max-autotune-float16-b8-t2", "float16", 8, 2)),
        ("cpu-onnxruntime-b8", ("cpu-onnxruntime-b8", None, 8, None)),
        ("cpu-eager-b8-compile", ("cpu-eager-b8", None, 8, None)),
        ("cpu-int8:weight-only-b8", ("cpu-int8:weight-only-b8", None, 8, None)),
        ("cpu-eager-float16:channels_last-b8", ("cpu-eager-float16:channels_last-b8", "float16", 8, None)),
        ("cpu-compile:wrong-b8", None),
        ("cpu-b16", None),
    ],
)  # fmt: skip
def test_an_id_that_a_run_printed_is_run_eagerly_on_the_cpu(text, found):
    one = axes_of_id(text, Marker(batch_sizes=(1, 8)), RUNTIMES)
    if found is None:
        assert one is None
        return
    assert (one.id, one.dtype, one.batch_size, one.threads) == found
    assert (one.device, one.runtime) == ("cpu", "eager")
