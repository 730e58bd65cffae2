import pytest

from pytest_infergate.devices.visibility import Sighting, absence


def reason(name="cuda", devices=0, visible=None, *, built=True, problem=None):
    kind, _, index = name.partition(":")
    label = {"cuda": "CUDA", "xpu": "XPU", "mps": "MPS"}[kind]
    variable = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK", "mps": ""}[kind]
    return absence(kind, int(index or 0), Sighting(label, built, devices, variable, visible, problem))


@pytest.mark.parametrize(
    ("name", "devices", "visible"),
    [
        ("cuda", 1, None),
        ("cuda", 1, "0"),
        ("cuda:1", 2, None),
        ("cuda:1", 2, "3,0"),
        ("cuda", 1, "0,-1"),
        ("cuda", 1, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
        ("mps", 1, None),
    ],
)
def test_a_device_that_is_there(name, devices, visible):
    assert reason(name, devices, visible) is None


@pytest.mark.parametrize(
    ("name", "devices", "visible", "words"),
    [
        ("cuda", 0, None, "no CUDA device found"),
        ("mps", 0, None, "no MPS device found"),
        ("cuda:1", 0, None, "no CUDA device found"),
        ("cuda:1", 1, None, "cuda:1 absent: 1 CUDA device found"),
        ("cuda:4", 2, None, "cuda:4 absent: 2 CUDA devices found"),
        ("cuda", 0, "", "cuda hidden: CUDA_VISIBLE_DEVICES is empty"),
        ("cuda", 0, "  ", "cuda hidden: CUDA_VISIBLE_DEVICES is empty"),
        ("cuda:1", 0, "", "cuda:1 hidden: CUDA_VISIBLE_DEVICES is empty"),
        ("cuda", 0, "-1", "cuda hidden: CUDA_VISIBLE_DEVICES=-1 hides every device with the entry -1"),
        ("cuda", 0, "-1,0", "cuda hidden: CUDA_VISIBLE_DEVICES=-1,0 hides every device with the entry -1"),
        (
            "cuda:1",
            1,
            "0,-1,1",
            "cuda:1 hidden: CUDA_VISIBLE_DEVICES=0,-1,1 hides what follows with the entry -1",
        ),
        (
            "cuda:2",
            1,
            "0,-1,1",
            "cuda:2 hidden: CUDA_VISIBLE_DEVICES=0,-1,1 hides what follows with the entry -1",
        ),
        (
            "cuda:1",
            1,
            "0,,1",
            "cuda:1 hidden: CUDA_VISIBLE_DEVICES=0,,1 hides what follows with the entry between commas",
        ),
        ("cuda:1", 1, "0", "cuda:1 hidden: CUDA_VISIBLE_DEVICES=0 shows 1 device"),
        ("cuda:3", 2, "0,1", "cuda:3 hidden: CUDA_VISIBLE_DEVICES=0,1 shows 2 devices"),
        (
            "cuda",
            0,
            "9",
            "cuda hidden: CUDA_VISIBLE_DEVICES=9 names a device that this machine does not have",
        ),
        (
            "cuda:1",
            0,
            "9,0",
            "cuda:1 hidden: CUDA_VISIBLE_DEVICES=9,0 names a device that this machine does not have",
        ),
        (
            "cuda:1",
            1,
            "0,9",
            "cuda:1 hidden: CUDA_VISIBLE_DEVICES=0,9 names a device that this machine does not have",
        ),
        (
            "cuda",
            0,
            "NoDevFiles",
            "cuda hidden: CUDA_VISIBLE_DEVICES=NoDevFiles names a device that this machine does not have",
        ),
        (
            "cuda",
            0,
            "0,0",
            "cuda hidden: CUDA_VISIBLE_DEVICES=0,0 names a device twice, which hides every device",
        ),
        (
            "cuda:1",
            0,
            "0, 0",
            "cuda:1 hidden: CUDA_VISIBLE_DEVICES=0, 0 names a device twice, which hides every device",
        ),
        ("xpu", 0, "9", "xpu hidden: ZE_AFFINITY_MASK=9 names a device that this machine does not have"),
        ("xpu:1", 1, "0", "xpu:1 hidden: ZE_AFFINITY_MASK=0 shows 1 device"),
    ],
)
def test_why_a_device_is_absent(name, devices, visible, words):
    assert reason(name, devices, visible) == words


@pytest.mark.parametrize(("name", "words"), [("cuda", "CUDA"), ("xpu:1", "XPU"), ("mps", "MPS")])
def test_not_built_comes_first(name, words):
    assert reason(name, visible="", built=False) == f"torch built without {words}"


def test_rocm_hides_by_its_own_variable():
    sighting = Sighting("CUDA", built=True, devices=0, variable="HIP_VISIBLE_DEVICES", visible="")
    assert absence("cuda", 0, sighting) == "cuda hidden: HIP_VISIBLE_DEVICES is empty"


@pytest.mark.parametrize("visible", [None, "0"])
def test_what_the_driver_complains_about_is_the_reason(visible):
    words = reason(visible=visible, problem="The NVIDIA driver on your system is too old")
    assert words == "cuda cannot be used: The NVIDIA driver on your system is too old"
