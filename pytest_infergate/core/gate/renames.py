"""Cases that were probably renamed between the baseline and a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pytest_infergate.core.domain.values import Case


def renamed_cases(missing: Sequence[Case], new: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Pair missing with new cases that differ in their test only, if each is the only candidate of the other.

    A test that moved to another file keeps its name, which is the stronger sign and is tried first. A test
    that was renamed keeps its file.
    """
    pairs: dict[Case, Case] = {}
    for by_name in (True, False):
        # Pairs by name are final: what they explain is not explained again by a file.
        taken = frozenset(pairs.values())
        after = _groups((case for case in new if case not in taken), by_name=by_name)
        before = _groups((case for case in missing if case not in pairs), by_name=by_name)
        for key, olds in before.items():
            news = after.get(key, [])
            # With several candidates any pair would be a guess.
            if len(olds) == len(news) == 1:
                pairs[olds[0]] = news[0]
    return [(old, pairs[old]) for old in missing if old in pairs]


def _groups(cases: Iterable[Case], *, by_name: bool) -> dict[object, list[Case]]:
    """Group cases by the axes and by the name or the file of their test."""
    groups: dict[object, list[Case]] = defaultdict(list)
    for case in cases:
        axes = case.params, case.device, case.runtime, case.dtype, case.batch_size, case.threads
        groups[axes, case.test.partition("::")[2] if by_name else case.module].append(case)
    return groups
