import errno
import mmap
import sys

import pytest

from pytest_infergate.measure import memory
from pytest_infergate.measure.memory import is_out_of_memory

TEXTS = {
    "cpu": "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)",
    "windows": "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    "cuda": "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB",
    "cuda-error": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "cublas": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cudnn": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cusolver": "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "cufft": "cuFFT error: CUFFT_ALLOC_FAILED",
    "hip": "HIP out of memory. Tried to allocate 2.00 GiB",
    "hipblas": "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "xpu": "XPU out of memory. Tried to allocate 16.00 GiB. GPU 0 has a total capacity of 15.00 GiB",
    "level-zero": "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "level-zero-too": "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "mps": "MPS backend out of memory (MPS allocated: 9.0 GB, other allocations: 1 GB, max allowed: 9.07 GB)",
    "mps-buffer": "Invalid buffer size: 20.00 GiB",
    "triton": "Triton Error [CUDA]: out of memory",
    "c++": "std::bad_alloc",
    "onnx": "Failed to allocate memory for requested buffer of size 4294967296",
    "max": "At max/mojo/max/gpu/host/device_context.mojo:4073:35: Memory allocation failed",
}


def test_what_running_out_of_memory_looks_like():
    assert [name for name, text in TEXTS.items() if not is_out_of_memory(RuntimeError(text))] == []
    assert is_out_of_memory(Exception(TEXTS["max"]))  # as it raises it


def test_what_does_not():
    others = [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("Storage size calculation overflowed with sizes=[9223372036854775807]"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"),
        RuntimeError(),
        ValueError("out of memory"),
        OSError(errno.ENOENT, "no such file"),
        KeyError("out of memory"),
    ]
    assert [error for error in others if is_out_of_memory(error)] == []


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")], ids=repr)
def test_python_s_own_errors(error):
    assert is_out_of_memory(error)


def test_torch_s_own_error(monkeypatch):
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    fake = type(sys)("torch")
    fake.OutOfMemoryError = OutOfMemoryError
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert is_out_of_memory(OutOfMemoryError("in words nobody knows"))


def test_a_torch_that_is_half_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    assert not is_out_of_memory(RuntimeError("other"))


def wrapped(outer, inner):
    outer.__cause__ = inner
    return outer


def test_an_error_that_was_raised_from_it():
    assert is_out_of_memory(wrapped(ValueError("serving failed"), wrapped(KeyError(), MemoryError())))
    assert not is_out_of_memory(wrapped(ValueError("serving failed"), KeyError("x")))


def test_causes_that_go_round():
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert not is_out_of_memory(one)


class UnspeakableError(RuntimeError):
    def __str__(self):
        raise AttributeError("no text")


def test_an_exception_without_a_text():
    assert not is_out_of_memory(UnspeakableError())
    assert memory.error_text(UnspeakableError()) == "UnspeakableError"
    assert memory.error_text(RuntimeError()) == "RuntimeError"
    assert memory.error_text(RuntimeError(" two\nlines ")) == "two\nlines"


def test_peak_memory_is_the_kernel_s(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("Name:\tpytest\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t 7 kB\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    assert memory.host_peak() == 123 * 1024


def test_peak_memory_is_absent_where_the_kernel_tells_none(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert memory.host_peak() is None
    (tmp_path / "status").write_text("Name:\tpytest\n")
    assert memory.host_peak() is None


def test_resetting_the_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "clear_refs")
    assert memory.reset_host_peak()
    assert (tmp_path / "clear_refs").read_text() == "5"
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "none" / "clear_refs")
    assert not memory.reset_host_peak()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts no minor page faults")
def test_page_faults_grow_with_memory_that_is_touched():
    before = memory.page_faults()
    with mmap.mmap(-1, 1 << 20) as block:  # fresh from the system, not what others freed
        block[::4096] = bytes(256)
        assert memory.page_faults() > before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the files of Linux")
def test_growth_beyond_the_available_memory_raises(tmp_path, monkeypatch):
    system = tmp_path / "meminfo"
    system.write_text("MemTotal: 200000 kB\nMemAvailable: 100000 kB\n")
    monkeypatch.setattr(memory, "_SYSTEM", system)
    with memory.growth_limited():
        bytearray(10_000_000)
        with pytest.raises(MemoryError):
            bytearray(200_000_000)
    bytearray(200_000_000)


def test_growth_is_not_limited_where_the_available_memory_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    with memory.growth_limited():
        bytearray(200_000_000)
