"""Memory of the test's own process, and what running out of memory looks like."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SIGNS = (
    "can't allocate memory",  # torch on Linux and macOS
    "not enough memory",  # torch on Windows
    "out of memory",  # cuda, hip, xpu, mps, triton
    "_alloc_failed",  # CUBLAS_STATUS_, CUDNN_STATUS_, CUSOLVER_STATUS_, HIPBLAS_STATUS_; CUFFT
    "out_of_device_memory",  # level zero
    "out_of_host_memory",
    "error_out_of_resources",  # level zero once more; triton's "out of resource" is something else
    "invalid buffer size",  # mps, where one tensor is larger than a buffer may be
    "bad_alloc",
    "failed to allocate memory",
)


def reset_host_peak() -> bool:
    """Start the kernel's record of peak resident memory anew; whether it let us."""
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def host_peak() -> int | None:
    """Peak resident memory of this process since the last reset, in bytes; `None` off Linux."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def page_faults() -> int | None:
    """Minor page faults of this process so far; `None` on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, says that memory ran out.

    On any device of torch, in one of its libraries, or in Python itself.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _says_out_of_memory(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def _says_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    exhausted = getattr(sys.modules.get("torch"), "OutOfMemoryError", None)
    if exhausted is not None and isinstance(error, exhausted):
        return True
    words = message(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _SIGNS)


def message(error: BaseException) -> str:
    """The text of an exception; its type where the text is empty or cannot be made."""
    try:
        return str(error).strip() or type(error).__name__
    except Exception:  # noqa: BLE001 - whatever an exception of the user's raises
        return type(error).__name__
