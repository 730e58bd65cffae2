"""Fields and codes of version 0.1 in a decoded document, without any file."""

from pytest_infergate.core.domain.notes import RENAMED
from pytest_infergate.core.domain.upgrade_0_1 import FIELDS, upgraded
from pytest_infergate.core.domain.values import SCHEMA_VERSION


def test_every_field_and_code_is_renamed():
    for old, new in FIELDS.items():
        assert upgraded({"inner": [{old: 1}]}) == {"inner": [{new: 1}]}
    for code, renamed in RENAMED.items():
        assert upgraded({"code": code}) == {"code": renamed.value}


def test_other_codes_stay_also_such_as_are_no_text():
    for code in ("regressed", 1, None, ["x"], {"x": 1}):
        assert upgraded({"code": code}) == {"code": code}


def test_only_version_one_becomes_that_of_today():
    for version, expected in [(1, SCHEMA_VERSION), (0, 0), (SCHEMA_VERSION, SCHEMA_VERSION), (99, 99)]:
        assert upgraded([{"schema_version": version}]) == [{"schema_version": expected}]
