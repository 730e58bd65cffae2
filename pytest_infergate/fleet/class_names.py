"""Machine classes in advice, which otherwise knows machines by their hardware only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pytest_infergate.core.domain.advice_values import Plan
from pytest_infergate.core.domain.values import Struct


def with_class_names(advice: Any, classes: Mapping[str, str]) -> Any:
    """Return advice whose plans name the class before the machine: ``one-core: 1-core AMD EPYC``.

    `classes` are the names by the id of the hardware class. Other plans are left as they are.
    """
    if isinstance(advice, Plan):
        name = classes.get(advice.hardware)
        if name is None:
            return advice
        # The class says which machine it is, so that the id of its hardware need not.
        machine = advice.instance.removesuffix(f", {advice.hardware}")
        return msgspec.structs.replace(advice, instance=f"{name}: {machine}")
    if isinstance(advice, Struct):
        fields = {field: getattr(advice, field) for field in advice.__struct_fields__}
        return type(advice)(**{field: with_class_names(value, classes) for field, value in fields.items()})
    if isinstance(advice, tuple):
        return tuple(with_class_names(value, classes) for value in advice)
    return advice
