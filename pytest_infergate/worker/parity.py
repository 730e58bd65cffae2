"""Whether both sides compute the same: a change may be faster because it computes something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pytest_infergate.instruments.timed_calls import Inputs, RepeatedCall
from pytest_infergate.outputs.comparison import Comparer, difference_text, uncompared_places
from pytest_infergate.outputs.output_description import Description
from pytest_infergate.outputs.value_differences import PAIRED, Sides
from pytest_infergate.paired.protocol import OutputCompared


def keep(output: Any, path: str) -> None:
    """Write an output to a file, for `compare`."""
    Description.of(output).write(path)


def compare(
    output: Any,
    path: str,
    tolerance: float | None = None,
    repeat: Callable[[], Any] | None = None,
    renamed: tuple[str, str] | None = None,
    *,
    sides: Sides = PAIRED,
) -> OutputCompared:
    """Compare an output with the base's in a file.

    `tolerance` replaces that of the dtype. Integers, booleans and text must be equal. `repeat` makes the same
    call again: values that differ between the two calls, such as times, are not compared.
    `renamed` is the top folder of the base and that of the candidate, which texts may contain;
    `sides` says what they are.
    """
    now = Description.of(output)
    compared = Comparer(Description.read(path, renamed), now, tolerance, sides)
    found, uncompared = compared.found, compared.uncompared
    if found and repeat is not None:
        # Also of tensors: a generator of random numbers that the model makes has no seed of infergate.
        varying = Comparer(now, Description.of(repeat()), tolerance).found
        for place in [place for place in found if place in varying]:
            del found[place]
            uncompared[place] = "differs from call to call"
    return OutputCompared(difference_text(found), uncompared_places(uncompared))


def beside_arguments(
    compared: OutputCompared, call: RepeatedCall, arguments: Inputs | None
) -> OutputCompared:
    """Add the arguments of a call to what is not compared if it writes into them, as into buffers."""
    call.prepare()  # finds what the calls so far have changed
    if arguments is None or not arguments.changing:
        return compared
    place = "the arguments (the call changes them)"
    return msgspec.structs.replace(compared, uncompared=(*compared.uncompared, place))
