"""Files of version 0.1, whose fields and note codes had other names, brought to the names of today."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from pytest_infergate.core.domain.notes import RENAMED
from pytest_infergate.core.domain.places import count_places
from pytest_infergate.core.domain.records import Tally
from pytest_infergate.core.domain.values import SCHEMA_VERSION

_NO_WORK = re.compile(r"profiler::.*|aten::(empty|empty_like|empty_strided|empty_permuted|new_empty)")
"""Operators that version 0.1 counts, although they do no work."""
FIELDS: Final = {
    "cure": "hint",
    "yardsticks": "reference_work",
    "crews": "concurrent_runs",
    "disturbance": "contention",
    "disturbed": "contended",
    "base_boards": "base_gpu_states",
    "candidate_boards": "candidate_gpu_states",
}
"""Fields of results, baselines and paired data by their name in version 0.1."""
_FREE_KEYS: Final = frozenset({"packages", "totals", "accepted"})
"""Tables whose keys come from users or from torch and are never names of fields."""


def upgraded(document: Any) -> Any:
    """Return a decoded JSON document of version 0.1 with the field names and note codes of today.

    `schema_version` becomes that of today. A value that is not a document of 0.1 is returned unchanged, so
    that the validation which follows names what is wrong with it.
    """
    if isinstance(document, list):
        return [upgraded(part) for part in document]
    if not isinstance(document, dict):
        return document
    renamed = {
        FIELDS.get(key, key): value if key in _FREE_KEYS else upgraded(value)
        for key, value in document.items()
    }
    # Nested documents carry versions too: merged results contain sessions.
    if renamed.get("schema_version") == 1:
        renamed["schema_version"] = SCHEMA_VERSION
    # Only notes have a field of this name.
    code = renamed.get("code")
    if isinstance(code, str) and code in RENAMED:
        renamed["code"] = RENAMED[code].value
    return renamed


def without_idle_operators(tally: Tally) -> Tally:
    """Return counters of version 0.1 without the operators that are not counted any more."""
    counters = dict(tally.counters)
    for row in tally.operators:
        if _NO_WORK.fullmatch(row.operator):
            # They write nothing: their bytes are those of the tensor whose shape they take.
            for name, each in (("operators", row.calls), ("bytes_read", row.bytes)):
                figure = counters.get(name)
                if figure is not None:
                    counters[name] = figure - each * count_places(row.place)
    kept = tuple(row for row in tally.operators if not _NO_WORK.fullmatch(row.operator))
    return msgspec.structs.replace(tally, counters=counters, operators=kept)
