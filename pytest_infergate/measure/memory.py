"""Memory of the test's own process, and exceptions that mean out of memory."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SYSTEM = Path("/proc/meminfo")
# What messages of RuntimeError, or of Exception itself, contain in lower case if memory ran out: only some
# backends of torch raise an exception type of their own.
_OUT_OF_MEMORY = (
    "can't allocate memory",  # torch on Linux and macOS
    "not enough memory",  # torch on Windows
    "out of memory",  # cuda, hip, xpu, mps, triton
    "_alloc_failed",  # CUBLAS_STATUS_, CUDNN_STATUS_, CUSOLVER_STATUS_, HIPBLAS_STATUS_; CUFFT
    "out_of_device_memory",  # level zero
    "out_of_host_memory",
    "error_out_of_resources",  # level zero; triton's "out of resource" is a limit of a kernel
    "invalid buffer size",  # mps, if a tensor exceeds the largest buffer
    "bad_alloc",
    "failed to allocate memory",
    "memory allocation failed",  # max, on which the device mojo is built
)


def reset_host_peak() -> bool:
    """Reset the peak resident memory of this process in the kernel; return whether that is possible."""
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def host_peak() -> int | None:
    """Return the peak resident bytes of this process since the last reset; `None` except on Linux."""
    return _kibibytes(_STATUS, "VmHWM:")


def _kibibytes(path: Path, field: str) -> int | None:
    """Return a field of a file of the kernel in bytes; `None` if there is no such file or field."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


@contextmanager
def growth_limited() -> Iterator[None]:
    """Let this process grow until exit by the memory that is available now, except outside of Linux.

    Allocations beyond it raise, where otherwise the system would end some process.
    """
    size, available = _kibibytes(_STATUS, "VmSize:"), _kibibytes(_SYSTEM, "MemAvailable:")
    if sys.platform == "win32" or size is None or available is None:
        yield
        return
    import resource

    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = size + available
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft < 0 else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def page_faults() -> int | None:
    """Return the number of minor page faults of this process so far; `None` on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception, or one of its causes, means that memory ran out.

    Recognised are Python itself, the operating system, and all devices and libraries of torch.
    """
    seen: set[int] = set()  # a chain of causes may be circular
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _means_out_of_memory(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def _means_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    torch_error = getattr(sys.modules.get("torch"), "OutOfMemoryError", None)
    if torch_error is not None and isinstance(error, torch_error):
        return True
    text = error_text(error).lower()
    untyped = isinstance(error, RuntimeError) or type(error) is Exception
    return untyped and any(part in text for part in _OUT_OF_MEMORY)


def error_text(error: BaseException) -> str:
    """Return the text of an exception; the name of its type if the text is empty or raises."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:  # noqa: BLE001 - __str__ of a user's exception may raise anything
        return type(error).__name__
