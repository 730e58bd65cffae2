"""A test item that worker processes run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pytest_infergate.config.case_terms import CaseTerms
from pytest_infergate.core.domain.values import Case


class SelectedCase(NamedTuple):
    """An inference test of the run, with what its workers need to know."""

    nodeid: str
    path: Path
    case: Case
    terms: CaseTerms
