"""Whether a device is waited for, by products whose result is read: a read cannot return before the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.reference_work import FAST_KINDS, square_product

WORK_SECONDS: Final = 0.005
"""Time of the known work, which is far longer than reading a number."""
MAX_PRODUCTS: Final = 4096
TRIALS: Final = 3
"""A read that takes long in one trial may be a pause of the process."""


def unwaited_note(device: Device) -> Note | None:
    """Return a note if `synchronize` of a device of torch returns before its work is done.

    Takes some 50 ms, and memory for three matrices. Passes on what a device raises.
    """
    if device.torch_name is None or not device.asynchronous:
        return None
    import torch

    side = 2048 if torch.device(device.torch_name).type in FAST_KINDS else 256
    # Products of this matrix with itself are finite, however many there are.
    matrix = torch.full((side, side), 1 / side, device=device.torch_name)
    product = square_product(matrix, torch.empty_like(matrix))
    return unwaited(device, product, lambda result: float(result[0, 0]))


def unwaited(device: Device, run: Callable[[], Any], read: Callable[[Any], object]) -> Note | None:
    """Return a note if reading a result after `synchronize` still takes as long as the work.

    `run` issues work that takes longer than to issue it, and returns what `read` reads, which waits for it.
    """
    count = 1
    while (whole := _seconds(device, run, read, count)[1]) < WORK_SECONDS and count < MAX_PRODUCTS:
        count *= 4
    reads = []
    for _ in range(TRIALS):
        after, _ = _seconds(device, run, read, count, wait=True)
        if after < whole / 2:
            return None
        reads.append(after)
    return Note(
        code=NoteCode.TOO_FAST,
        text=f"synchronize() of {device.name} does not wait: reading the result of work of "
        f"{units.seconds(whole)} took {units.seconds(min(reads))} after it",
        hint="check that the device is waited for: synchronize() must return only when all work is done",
    )


def _seconds(
    device: Device, run: Callable[[], Any], read: Callable[[Any], object], count: int, *, wait: bool = False
) -> tuple[float, float]:
    """Issue work `count` times and read the result; return the seconds of the read, and of all."""
    begin = device.clock()
    for _ in range(count):
        result = run()
    if wait:
        device.synchronize()
    issued = device.clock()
    read(result)
    end = device.clock()
    return (end - issued) / 1e9, (end - begin) / 1e9
