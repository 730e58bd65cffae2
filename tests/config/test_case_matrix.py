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


class Service:
    """A server: it has no devices and dtypes that it could support."""

    name, modes = "server", ("canary",)

    def absence_reason(self):
        return None

    def remote(self, target, mode):
        return target


def served(folder, marker, *, measuring=True, **options):
    settings = parsed(folder, {"devices": "fake"})
    offered = {**settings.offered, "server": Service()}
    settings = dataclasses.replace(settings, measuring=measuring, offered=offered, **options)
    return settings, axes(marker, settings, ("cpu", "cuda"))


def test_a_server_has_one_case_for_each_batch_size(tmp_path):
    """Devices, dtypes and threads are those of this machine."""
    marker = Marker(batch_sizes=(1, 8), devices=("cpu", "cuda"), dtypes=("float32",), threads=(1, 2))
    _, made = served(tmp_path, marker, runtimes=("server", "server:canary"))
    assert [one.id for one in made] == [
        "remote-server-b1", "remote-server-b8", "remote-server:canary-b1", "remote-server:canary-b8",
    ]  # fmt: skip
    assert {(one.device, one.dtype, one.threads, one.deselected) for one in made} == {
        ("remote", None, None, None)
    }
    _, made = served(tmp_path, Marker(devices=("cpu",)), runtimes=("eager", "server"))
    assert [one.id for one in made] == ["cpu-eager", "remote-server"]
    _, made = served(tmp_path, Marker(runtimes=("server",)))
    assert [one.id for one in made] == ["remote-server"]


def test_a_plain_run_calls_a_server_only_where_nothing_else_can_run(tmp_path):
    for runtimes, found in [
        (("server",), ("remote-server", "remote", "server")),
        (("server", "compile"), ("cpu-compile", "cpu", "eager")),
        (("eager", "server"), ("cpu-eager", "cpu", "eager")),
    ]:
        _, [only] = served(tmp_path, Marker(runtimes=runtimes, batch_sizes=None), measuring=False)
        assert (only.id, only.device, only.runtime) == found, runtimes


def test_the_id_of_a_server_is_that_of_its_case(tmp_path):
    settings, _ = served(tmp_path, Marker())
    marker = Marker(batch_sizes=(1, 8))
    found = axes_of_id("remote-server:canary-b8-long", marker, settings.offered)
    assert (found.id, found.device, found.runtime, found.batch_size) == (
        "remote-server:canary-b8", "remote", "server:canary", 8,
    )  # fmt: skip


def test_a_server_has_no_base(tmp_path):
    _, made = served(tmp_path, Marker(), runtimes=("eager", "server"), against="main")
    assert {one.id: one.deselected for one in made} == {
        "cpu-eager": None,
        "cuda-eager": None,
        "remote-server": "a paired run has no other version of a server to compare with",
    }
    _, made = served(tmp_path, Marker(), runtimes=("compile", "server"), against_runtime="server")
    assert {one.deselected for one in made} == {
        "server is a server, with which no runtime is compared call by call",
        "a paired run has no other version of a server to compare with",
    }
