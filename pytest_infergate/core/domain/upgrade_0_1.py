"""Files of version 0.1, whose fields and note codes had other names, brought to the names of today."""

from __future__ import annotations

from typing import Any, Final

from pytest_infergate.core.domain.notes import RENAMED
from pytest_infergate.core.domain.values import SCHEMA_VERSION

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
