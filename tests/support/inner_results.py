"""What inner runs decided, read from their files of results."""

import json
from typing import NamedTuple


class Decided(NamedTuple):
    """What the file of results says of one case."""

    verdict: str
    failed: bool
    codes: frozenset[str]
    """Codes of all notes."""


def verdicts(path):
    """What a file of results decided, by the name of the test; ``[fake]`` goes without saying."""
    entries = json.loads(path.read_text(encoding="utf-8"))["gate"]["verdicts"]
    return {
        entry["nodeid"].partition("::test_")[2].removesuffix("[fake]"): Decided(
            entry["verdict"], entry["failed"], frozenset(_codes(entry))
        )
        for entry in entries
    }


def _codes(entry):
    if isinstance(entry, dict):
        yield from ([entry["code"]] if "code" in entry else [])
    if isinstance(entry, (dict, list)):
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _codes(part)


def failures(result):
    """What failed reports of a run in this process say, by the whole name of the test."""
    reports = result.reprec.getreports("pytest_runtest_logreport")
    return {one.nodeid.partition("::")[2]: str(one.longrepr) for one in reports if one.failed}
