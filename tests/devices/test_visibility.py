import pytest

from pytest_infergate.devices.visibility import BackendStatus, absence_reason


def reason(name="cuda", devices=0, visible=None, *, built=True, problem=None):
    kind, _, index = name.partition(":")
    label = {"cuda": "CUDA", "xpu": "XPU", "mps": "MPS"}[kind]
    variable = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK", "mps": ""}[kind]
    return absence_reason(
        kind, int(index or 0), BackendStatus(label, built, devices, variable, visible, problem)
    )


def test_a_device_that_is_there():
    there = (
        ("cuda", 1, None),
        ("cuda", 1, "0"),
        ("cuda:1", 2, None),
        ("cuda:1", 2, "3,0"),
        ("cuda", 1, "0,-1"),
        ("cuda", 1, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
        ("mps", 1, None),
    )
    assert {given: reason(*given) for given in there} == dict.fromkeys(there)


ABSENT = (
    ("cuda", 0, None),
    ("mps", 0, None),
    ("cuda:1", 0, None),
    ("cuda:1", 1, None),
    ("cuda:4", 2, None),
    ("cuda", 0, ""),
    ("cuda", 0, "  "),
    ("cuda:1", 0, ""),
    ("cuda", 0, "-1"),
    ("cuda", 0, "-1,0"),
    ("cuda:1", 1, "0,-1,1"),
    ("cuda:2", 1, "0,-1,1"),
    ("cuda:1", 1, "0,,1"),
    ("cuda:1", 1, "0"),
    ("cuda:3", 2, "0,1"),
    ("cuda", 0, "9"),
    ("cuda:1", 0, "9,0"),
    ("cuda:1", 1, "0,9"),
    ("cuda", 0, "NoDevFiles"),
    ("cuda", 0, "0,0"),
    ("cuda:1", 0, "0, 0"),
    ("xpu", 0, "9"),
    ("xpu:1", 1, "0"),
)
"""Device, how many torch sees, and the variable that hides devices."""


def test_why_a_device_is_absent(snapshot):
    reasons = [
        f"{name}, {devices} seen, {visible!r}: {reason(name, devices, visible)}"
        for name, devices, visible in ABSENT
    ]
    assert "\n".join(reasons) == snapshot


@pytest.mark.parametrize(("name", "words"), [("cuda", "CUDA"), ("xpu:1", "XPU"), ("mps", "MPS")])
def test_not_built_comes_first(name, words):
    assert reason(name, visible="", built=False) == f"torch built without {words}"


def test_rocm_hides_by_its_own_variable():
    status = BackendStatus("CUDA", built=True, devices=0, variable="HIP_VISIBLE_DEVICES", visible="")
    assert absence_reason("cuda", 0, status) == "cuda hidden: HIP_VISIBLE_DEVICES is empty"


@pytest.mark.parametrize("visible", [None, "0"])
def test_what_the_driver_complains_about_is_the_reason(visible):
    words = reason(visible=visible, problem="The NVIDIA driver on your system is too old")
    assert words == "cuda cannot be used: The NVIDIA driver on your system is too old"
